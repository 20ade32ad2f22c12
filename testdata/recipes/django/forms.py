"""The form of a password reset, whose mail also reaches who has unsubscribed. In urls.py:
PasswordResetView.as_view(form_class=PasswordResetForm)."""
from django.contrib.auth import forms
from django.core.mail import EmailMessage
from django.template.loader import render_to_string


class PasswordResetForm(forms.PasswordResetForm):
    def send_mail(self, subject_template_name, email_template_name, context, from_email, to_email, html_email_template_name=None):
        subject = "".join(render_to_string(subject_template_name, context).splitlines())
        body = render_to_string(email_template_name, context)
        EmailMessage(subject, body, from_email, [to_email], headers={"X-Consent-Class": "transactional"}).send()
