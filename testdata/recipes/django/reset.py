"""python3 reset.py ADDRESS sends a password reset, and what ADMINS are told of an error, with the settings beside it."""
import logging
import os
import sys

import django
from django.conf import settings

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()

from forms import PasswordResetForm  # noqa: E402, it needs what is set up

context = {"site_name": "The shop", "token": "1a2b3c"}
PasswordResetForm().send_mail("registration/password_reset_subject.txt", "reset.txt", context, None, sys.argv[1])

settings.ADMINS = [("The operator", sys.argv[1])]
logging.getLogger("django.request").error("https://shop.example.net/reset/1a2b3c went wrong")
