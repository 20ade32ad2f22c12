// Verifies messages with mailauth: node mailauth_verify.js MAILAUTH-FOLDER RECORD FILE...
// The DNS says RECORD under every name. Prints a line for each file: its name, and of each signature the
// result, with a reason where it is not "pass".
const { readFileSync } = require('fs');
const { dkimVerify } = require(process.argv[2] + '/lib/dkim/verify');

async function main() {
    const [record, ...files] = process.argv.slice(3);
    for (const file of files) {
        const { results } = await dkimVerify(readFileSync(file), { resolver: async () => [[record]] });
        console.log(file + ' ' + results.map(r => r.status.result + (r.status.comment ? '(' + r.status.comment + ')' : '')).join(' '));
    }
}

main().catch(err => {
    console.error(err);
    process.exit(1);
});
