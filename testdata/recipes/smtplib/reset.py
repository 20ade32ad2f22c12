"""python3 reset.py ADDRESS sends a password reset, which also reaches who has unsubscribed."""
import smtplib
import sys
from email.message import EmailMessage

msg = EmailMessage()
msg["From"] = "The shop <news@shop.example.net>"
msg["To"] = sys.argv[1]
msg["Subject"] = "Your password"
msg["X-Consent-Class"] = "transactional"
msg.set_content("https://shop.example.net/reset/1a2b3c")

with smtplib.SMTP("127.0.0.1", 2525, timeout=60) as smtp:
    smtp.send_message(msg)
