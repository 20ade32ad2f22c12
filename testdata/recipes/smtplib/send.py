"""python3 send.py ADDRESS sends the newsletter to one subscriber."""
import smtplib
import sys
from email.message import EmailMessage

msg = EmailMessage()
msg["From"] = "The shop <news@shop.example.net>"
msg["To"] = sys.argv[1]
msg["Subject"] = "Bücher"
msg["X-Consent-Scope"] = "newsletter"
with open("newsletter.txt", encoding="utf-8") as f:
    msg.set_content(f.read())
with open("newsletter.html", encoding="utf-8") as f:
    msg.add_alternative(f.read(), subtype="html", cte="quoted-printable")

with smtplib.SMTP("127.0.0.1", 2525, timeout=60) as smtp:
    smtp.send_message(msg)
