MAILERS = {
    "default": {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "OPTIONS": {"host": "127.0.0.1", "port": 2525, "timeout": 60},
    },
    "system": {
        "BACKEND": "system_mail.EmailBackend",
        "OPTIONS": {"host": "127.0.0.1", "port": 2525, "timeout": 60},
    },
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "mail_admins": {
            "level": "ERROR",
            "class": "django.utils.log.AdminEmailHandler",
            "using": "system",
        },
    },
    "loggers": {"django.request": {"handlers": ["mail_admins"]}},
}
