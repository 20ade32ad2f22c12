// Writes and sends a newsletter with Nodemailer, under TLS and logged in.
//
//   node nodemailer_send.js MODULE PORT "STARTTLS"|"implicit TLS" CA MECHANISM USER PASSWORD FROM PIXEL LINK TO...
//
// Ends with status 1 and the server's words where the message is not taken for all.
const fs = require("fs");
const [module_, port, security, ca, mechanism, user, pass, from, pixel, link, ...to] = process.argv.slice(2);
const nodemailer = require(module_);

async function main() {
  const transport = nodemailer.createTransport({
    host: "localhost",
    port: Number(port),
    name: "shop.example.net",
    secure: security === "implicit TLS",
    requireTLS: true,
    tls: { ca: fs.readFileSync(ca) },
    auth: { user, pass },
    authMethod: mechanism,
    pool: true,
    maxConnections: 1,
  });
  const info = await transport.sendMail({
    envelope: { from, to },
    from: "The shop <news@shop.example.net>",
    to: "Readers <readers@example.org>",
    subject: "Bücher",
    text: "Grüße\n.\n" + link,
    html: `<html><body><p>Hello</p>\n<a href="${link}">membership</a>\n<img src="${pixel}" width="1" height="1">\n</body></html>`,
    textEncoding: "quoted-printable",
    attachments: [{ filename: "data.bin", content: Buffer.from([0, 1, 2, 3, 4, 5]) }],
    dsn: { id: "order-7", return: "headers", notify: "failure" },
  });
  transport.close();
  if (info.rejected.length > 0) {
    throw new Error(`rejected: ${info.rejected}`);
  }
}

main().catch((err) => {
  console.error(err.message);
  process.exit(1);
});
