import os

from django.contrib.auth.hashers import BCryptSHA256PasswordHasher


class BcryptAtCost(BCryptSHA256PasswordHasher):
    rounds = int(os.environ["BCRYPT_COST"])
