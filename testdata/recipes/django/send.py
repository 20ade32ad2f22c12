"""python3 send.py ADDRESS sends the newsletter to one subscriber, with the settings beside it."""
import os
import sys

import django
from django.core.mail import EmailMultiAlternatives

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()

with open("newsletter.txt", encoding="utf-8") as text, open("newsletter.html", encoding="utf-8") as html:
    msg = EmailMultiAlternatives("Bücher", text.read(), to=[sys.argv[1]], headers={"X-Consent-Scope": "newsletter"})
    msg.attach_alternative(html.read(), "text/html")
msg.send()
