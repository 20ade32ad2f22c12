"""Sends a message with Python's smtplib, under TLS and logged in.

    smtplib_send.py PORT "STARTTLS"|"implicit TLS" CA MECHANISM USER PASSWORD FILE FROM TO...

Ends with status 1 and the server's words where the message is not taken for all.
"""
import smtplib
import ssl
import sys

port, security, ca, mechanism, user, password, path, sender = sys.argv[1:9]
context = ssl.create_default_context(cafile=ca)
if security == "STARTTLS":
    smtp = smtplib.SMTP("localhost", int(port), local_hostname="shop.example.net", timeout=20)
    smtp.starttls(context=context)
else:
    smtp = smtplib.SMTP_SSL("localhost", int(port), local_hostname="shop.example.net", timeout=20, context=context)
smtp.ehlo()
smtp.user, smtp.password = user, password
smtp.auth(mechanism, smtp.auth_plain if mechanism == "PLAIN" else smtp.auth_login)
with open(path, "rb") as f:
    refused = smtp.sendmail(sender, sys.argv[9:], f.read(), mail_options=["BODY=8BITMIME"])
smtp.quit()
if refused:
    sys.exit(repr(refused))
