"""The endpoints for whoever has received, or wants, a mail about an account. They speak to nobody in
particular: who somebody is, his link says, and whom he asks for has to stay unknown."""

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from users import wiring
from users.api import account_forms as forms
from users.api.client import client_of
from users.api.views import NO_STORE, Endpoint
from users.application.accounts import ResetPassword


class AccountViewSet(Endpoint):
    authentication_classes = ()

    def request_password_reset(self, request: Request) -> Response:
        wiring.service().accounts.request_password_reset(self.body(forms.AddressBody)["email"])
        return _accepted()

    def reset_password(self, request: Request) -> Response:
        fields = self.body(forms.ResetPasswordBody)
        command = ResetPassword(**fields, address=client_of(request).address)
        wiring.service().accounts.reset_password(command)
        return _done()

    def request_email_verification(self, request: Request) -> Response:
        wiring.service().accounts.request_email_verification(self.body(forms.AddressBody)["email"])
        return _accepted()

    def verify_email(self, request: Request) -> Response:
        wiring.service().accounts.verify_email(self.body(forms.LinkBody)["token"])
        return _done()

    def confirm_email_change(self, request: Request) -> Response:
        wiring.service().accounts.confirm_email_change(self.body(forms.LinkBody)["token"])
        return _done()

    def cancel_email_change(self, request: Request) -> Response:
        wiring.service().accounts.cancel_email_change(self.body(forms.LinkBody)["token"])
        return _done()


def _accepted() -> Response:
    return Response({}, status=status.HTTP_202_ACCEPTED, headers=NO_STORE)


def _done() -> Response:
    return Response(status=status.HTTP_204_NO_CONTENT, headers=NO_STORE)
