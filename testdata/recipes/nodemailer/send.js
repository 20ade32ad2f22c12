// node send.js ADDRESS sends the newsletter to one subscriber.
const fs = require("fs");
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
    subject: "Bücher",
    headers: { "X-Consent-Scope": "newsletter" },
    text: fs.readFileSync("newsletter.txt", "utf8"),
    html: fs.readFileSync("newsletter.html", "utf8"),
  })
  .catch((err) => {
    console.error(err.message);
    process.exit(1);
  });
