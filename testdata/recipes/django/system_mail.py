"""A backend for what Django tells the site's own people: it also reaches who has unsubscribed."""
from django.core.mail.backends import smtp


class EmailBackend(smtp.EmailBackend):
    def send_messages(self, messages):
        for message in messages:
            message.extra_headers["X-Consent-Class"] = "transactional"
        return super().send_messages(messages)
