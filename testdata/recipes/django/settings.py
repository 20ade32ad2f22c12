EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = 2525
DEFAULT_FROM_EMAIL = "The shop <news@shop.example.net>"
