SECRET_KEY = "for these scripts alone"

EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = 2525
EMAIL_TIMEOUT = 60
DEFAULT_FROM_EMAIL = "The shop <news@shop.example.net>"

# What ADMINS are told of errors.
SERVER_EMAIL = "errors@shop.example.net"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "mail_admins": {
            "level": "ERROR",
            "class": "django.utils.log.AdminEmailHandler",
            "email_backend": "system_mail.EmailBackend",
        },
    },
    "loggers": {"django.request": {"handlers": ["mail_admins"]}},
}

# Password resets.
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": ["."], "APP_DIRS": True}]
