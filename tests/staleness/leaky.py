"""The service with a cache as most are: whoever has missed fills with what he has read, later. Shows that the
checker finds staleness where there is some: `python -m tests.staleness.leaky` serves it."""

import os
import random
import time

TARGET = "tests.staleness.leaky:application"

if __name__ == "__main__":
    from config.server import serve

    serve(TARGET)
else:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from users import wiring
    from users.infrastructure.cache import EPOCH, RedisUserCache

    class WithoutLeases(RedisUserCache):
        def fill(self, lease, view):
            time.sleep(random.uniform(0, 0.02))
            with self._link.client() as redis:
                header = b"%s %d %d\n" % (redis.get(EPOCH) or b"-", view.version, view.token_version)
                redis.set(f"user:{{{view.id}}}", header + view.json)

    wiring.RedisUserCache = WithoutLeases
    from config.wsgi import application

    assert application
