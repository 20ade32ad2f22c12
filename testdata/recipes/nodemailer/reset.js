// node reset.js ADDRESS sends a password reset, which also reaches who has unsubscribed.
const nodemailer = require("nodemailer");

const transport = nodemailer.createTransport({
  host: "127.0.0.1",
  port: 2525,
  ignoreTLS: true,
});

transport
  .sendMail({
    from: "The shop <news@shop.example.net>",
    to: process.argv[2],
    subject: "Your password",
    headers: { "X-Consent-Class": "transactional" },
    text: "https://shop.example.net/reset/1a2b3c",
  })
  .catch((err) => {
    console.error(err.message);
    process.exit(1);
  });
