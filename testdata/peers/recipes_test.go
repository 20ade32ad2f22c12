package peers

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// The recipes in ../recipes are what the documentation tells users to do: a folder for each sender, with the lines
// to set, and a program of the sender's that sends the newsletter. The tests here run those files as they stand; the
// ports alone are replaced, and where the gateway keeps its files.

const recipesDir = "../recipes"

var recipesResults = flag.String("recipes", "", "write what was run to this `file`")

// ran is what the results say of a recipe, by its name.
var ran = struct {
	sync.Mutex
	lines map[string]string
}{lines: map[string]string{}}

// note says which program a recipe was run with. It is called where all went well.
func note(t testing.TB, recipe, with string) {
	t.Helper()
	ran.Lock()
	defer ran.Unlock()
	if !t.Failed() {
		ran.lines[recipe] = with
	}
}

// writeResults writes the table, once all tests have run. A recipe that was skipped, or failed, is named as not run.
func writeResults(file string) error {
	folders, err := filepath.Glob(recipesDir + "/*/README.md")
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# Recipes that were run\n\nWritten by `make recipes`. Each sends the newsletter to three people: one who never consented, one who agreed to both, and\n" +
		"one who has unsubscribed. Of every copy it is checked that trackers are there or are not as its consent calls for, that links lead to\n" +
		"their destination, that the unsubscribe link and pair are there once, and that the signature holds (go-msgauth, and OpenDKIM where it is\n" +
		"installed); and that each copy came once, and none for who has unsubscribed, of which each sender but listmonk hears. What is said\n" +
		"of transactional mail is run too: a password reset, or mail to root, reaches who has unsubscribed.\n\n| recipe | run with |\n|---|---|\n")
	for _, f := range folders {
		name := filepath.Base(filepath.Dir(f))
		with := ran.lines[name]
		if with == "" {
			with = "not run"
		}
		fmt.Fprintf(&b, "| [%s](%s/README.md) | %s |\n", name, name, with)
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

func readRecipe(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(recipesDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// recipeGateway runs the gateway that the recipes are written for, in front of a smarthost, with edits, each a line
// of its configuration and what takes its place.
func recipeGateway(t testing.TB, smarthost string, edits ...string) *gateway {
	t.Helper()
	return runRecipe(t, replaced(t, readRecipe(t, "consentgate.toml"), `"smtp://127.0.0.1:25"`, `"`+smarthost+`"`), edits...)
}

// runRecipe runs the gateway with a configuration. One person has agreed to all, one has unsubscribed.
func runRecipe(t testing.TB, text string, edits ...string) *gateway {
	t.Helper()
	for i := 0; i < len(edits); i += 2 {
		text = replaced(t, text, edits[i], edits[i+1])
	}
	for _, port := range []string{"127.0.0.1:2525", "127.0.0.1:8080", "127.0.0.1:8081"} {
		text = replaced(t, text, port, "127.0.0.1:0")
	}
	g := serve(t, strings.ReplaceAll(text, "/var/lib/consentgate", "DIR"))
	g.agree(t, "both@example.org")
	g.put(t, "gone@example.org", `{"mail":"unsubscribed"}`)
	return g
}

// replaced puts another text in the place of one that must be there.
func replaced(t testing.TB, text, old, new string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("%q is not in\n%s", old, text)
	}
	return strings.ReplaceAll(text, old, new)
}

// prepare copies a recipe's files, and the newsletter, into a folder of their own, with the gateway's port in the
// place of 2525.
func prepare(t testing.TB, recipe string, g *gateway) (dir string) {
	t.Helper()
	dir = folder(t)
	files, err := filepath.Glob(filepath.Join(recipesDir, recipe, "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%s holds %d files, %v", recipe, len(files), err)
	}
	for _, f := range append(files, recipesDir+"/newsletter.html", recipesDir+"/newsletter.txt") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, filepath.Base(f)), strings.ReplaceAll(string(text), "2525", g.smtp))
	}
	return dir
}

const recipeSender = "news@shop.example.net"

// judgeRecipe says what is wrong with a copy of the newsletter.
func (g *gateway) judgeRecipe(t testing.TB, m mail, agreed bool) {
	t.Helper()
	complain := func(format string, args ...any) {
		t.Helper()
		t.Errorf("the copy for <%s>: %s\n%s", m.to, fmt.Sprintf(format, args...), m.text)
	}
	g.verify(t, m)
	g.openDKIM(t, m)
	tracked(t, m, agreed)
	header, body, _ := strings.Cut(string(m.text), "\r\n\r\n")
	for _, field := range []string{"\r\nList-Unsubscribe: <" + linkPrefix, "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click"} {
		if strings.Count("\r\n"+header, field) != 1 {
			complain("%q is not there once", field)
		}
	}
	if strings.Contains(header, "X-Consent-") {
		complain("a control field left")
	}
	if !strings.Contains(unquoted.Replace(body), linkPrefix) {
		complain("no unsubscribe link in the text")
	}
}

// openDKIM lets OpenDKIM verify the signature, where it is installed.
func (g *gateway) openDKIM(t testing.TB, m mail) {
	t.Helper()
	opendkim, err := exec.LookPath("opendkim")
	if err != nil {
		if opendkim, err = exec.LookPath("/usr/sbin/opendkim"); err != nil {
			return
		}
	}
	dir := t.TempDir()
	write(t, dir+"/keys", dkimSelector+"._domainkey."+dkimDomain+" "+g.dkimRecord+"\n")
	write(t, dir+"/conf", "Mode v\nTestPublicKeys "+dir+"/keys\n")
	write(t, dir+"/copy.eml", string(m.text))
	if said, err := finish(exec.Command(opendkim, "-x", dir+"/conf", "-t", dir+"/copy.eml")); err != nil || !strings.Contains(said, "succeeded") {
		t.Errorf("OpenDKIM does not verify the copy for <%s>: %v %s", m.to, err, said)
	}
}

// judgeAll waits for the copies of the two who get one, and counts what came.
func (g *gateway) judgeAll(t testing.TB, end *sink) {
	t.Helper()
	g.judgeRecipe(t, end.await(t, recipeSender, "none@example.org"), false)
	g.judgeRecipe(t, end.await(t, recipeSender, "both@example.org"), true)
	for who, want := range map[string]int{"none@example.org": 1, "both@example.org": 1, "gone@example.org": 0} {
		if n := len(end.of(recipeSender, who)); n != want {
			t.Errorf("%d copies for %s, want %d", n, who, want)
		}
	}
}

// recipe is a sender that is a program: it is run once for each subscriber, and hears a refusal itself.
type recipe struct {
	name    string
	command func(t *testing.T, dir string) (args []string, with string)
}

var recipes = []recipe{
	{"smtplib", func(t *testing.T, _ string) ([]string, string) {
		python := needs(t, "python3")
		return []string{python, "send.py"}, version(t, python, "--version")
	}},
	{"django", func(t *testing.T, _ string) ([]string, string) {
		python := pythonWith(t, "django")
		return []string{python, "send.py"}, "Django " + version(t, python, "-c", "import django; print(django.get_version())") + ", " + version(t, python, "--version")
	}},
	{"nodemailer", func(t *testing.T, dir string) ([]string, string) {
		if testing.Short() {
			t.Skip("it fetches Nodemailer")
		}
		node, npm := needs(t, "node"), needs(t, "npm")
		install := exec.Command(npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "nodemailer@"+nodemailer)
		if said, err := finish(install); err != nil {
			t.Skipf("npm cannot fetch nodemailer@%s here: %v %s", nodemailer, err, tail(said, 3))
		}
		return []string{node, "send.js"}, "Nodemailer " + nodemailer + ", Node " + version(t, node, "--version")
	}},
	{"phpmailer", phpMailer("send.php")},
	{"wordpress", phpMailer("send.php")},
	{"msmtp", func(t *testing.T, dir string) ([]string, string) {
		msmtp := needs(t, "msmtp")
		// It refuses a file with a password that others may read; ours has none, but users are told 0600.
		if err := os.Chmod(dir+"/msmtprc", 0o600); err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(version(t, msmtp, "--version"), "\n")
		return []string{needs(t, "sh"), "send.sh"}, first
	}},
}

// phpMailer runs a script with the PHPMailer that Debian installs.
func phpMailer(script string) func(*testing.T, string) ([]string, string) {
	return func(t *testing.T, _ string) ([]string, string) {
		php := needs(t, "php")
		if _, err := os.Stat(debianPHPMailer); err != nil {
			t.Skipf("PHPMailer is not there: %v", err)
		}
		with := version(t, php, "-r", `require '`+debianPHPMailer+`'; echo 'PHPMailer ', PHPMailer\PHPMailer\PHPMailer::VERSION, ', PHP ', PHP_VERSION;`)
		return []string{php, script}, with
	}
}

const debianPHPMailer = "/usr/share/php/libphp-phpmailer/autoload.php"

// version is what a program says of itself.
func version(t testing.TB, program string, args ...string) string {
	t.Helper()
	said, err := finish(exec.Command(program, args...))
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, said)
	}
	return strings.TrimSpace(said)
}

// pythonWith is a Python that has a module: the first one in PATH, or the system's.
func pythonWith(t testing.TB, module string) string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import "+module).Run() == nil {
			return python
		}
	}
	t.Skipf("no Python has %s", module)
	return ""
}

// execute runs a recipe's program in its folder.
func execute(t testing.TB, dir string, args ...string) (said string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PHPMAILER="+debianPHPMailer)
	return finish(cmd)
}

func TestRecipePrograms(t *testing.T) {
	t.Parallel()
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			end := startSink(t)
			g := recipeGateway(t, end.url())
			dir := prepare(t, r.name, g)
			program, with := r.command(t, dir)
			newsletter := func(to string) (string, error) { return execute(t, dir, append(slices.Clone(program), to)...) }
			for _, to := range []string{"none@example.org", "both@example.org"} {
				if said, err := newsletter(to); err != nil {
					t.Fatalf("%s: %v\n%s", to, err, said)
				}
			}
			if said, err := newsletter("gone@example.org"); err == nil || !strings.Contains(said, "550") && !strings.Contains(said, "5.7.1") {
				t.Errorf("who has unsubscribed: %v\n%s", err, said)
			}
			g.judgeAll(t, end)
			switch r.name {
			case "wordpress":
				filters(t, g, end, dir, program)
				with += "; WordPress itself was not run"
			default:
				reset := slices.Clone(program)
				last := &reset[len(reset)-1]
				*last = replaced(t, *last, "send.", "reset.")
				if said, err := execute(t, dir, append(reset, "gone@example.org")...); err != nil {
					t.Fatalf("a password reset: %v\n%s", err, said)
				}
				g.judgeReset(t, end.await(t, recipeSender, "gone@example.org"))
			}
			switch r.name {
			case "django":
				g.judgeReset(t, end.await(t, "errors@shop.example.net", "gone@example.org"))
				version(t, program[0], dir+"/settings_6_1.py") // that it is Python at all
			case "msmtp":
				with += mailFunction(t, g, end, dir)
				// What the exit status tells: nothing but whether the gateway is there.
				exits(t, dir, 69, append(slices.Clone(program), "gone@example.org")...)
				g.stop(t)
				exits(t, dir, 75, append(slices.Clone(program), "none@example.org")...)
			}
			note(t, r.name, with)
		})
	}
}

// judgeReset says what is wrong with mail that is no marketing.
func (g *gateway) judgeReset(t testing.TB, m mail) {
	t.Helper()
	g.verify(t, m)
	untold(t, m)
	if !strings.Contains(string(m.text), "https://shop.example.net/reset/1a2b3c") {
		t.Errorf("not what was sent:\n%s", m.text)
	}
}

// untold looks for what no transactional mail has: its footer stands, but no mailbox offers to unsubscribe.
func untold(t testing.TB, m mail) {
	t.Helper()
	for _, never := range []string{"List-Unsubscribe", "X-Consent-"} {
		if bytes.Contains(m.text, []byte(never)) {
			t.Errorf("%q in transactional mail:\n%s", never, m.text)
		}
	}
}

// exits runs a program that must end with that status.
func exits(t testing.TB, dir string, status int, args ...string) {
	t.Helper()
	said, err := execute(t, dir, args...)
	if ended, ok := err.(*exec.ExitError); !ok || ended.ExitCode() != status {
		t.Errorf("%v ended with %v, want status %d\n%s", args, err, status, said)
	}
}

// filters sends by each filter that WordPress's plugin knows to who has unsubscribed, and by one that it does not know.
func filters(t *testing.T, g *gateway, end *sink, dir string, program []string) {
	t.Helper()
	known := regexp.MustCompile(`'(\w+_(?:email|email_admin|email_headers))'`).FindAllStringSubmatch(file(t, dir+"/consentgate.php"), -1)
	if len(known) < 10 {
		t.Errorf("%d filters in the plugin", len(known))
	}
	sent := 0
	for _, filter := range known {
		args := append(slices.Clone(program), "gone@example.org", filter[1])
		if filter[1] == "woocommerce_email_headers" {
			args = append(args, "customer_processing_order")
		}
		if said, err := execute(t, dir, args...); err != nil {
			t.Errorf("%s: %v\n%s", filter[1], err, said)
			continue
		}
		sent++
	}
	got := end.of(recipeSender, "gone@example.org")
	if len(got) != sent {
		t.Errorf("%d of %d came", len(got), sent)
	}
	for _, m := range got {
		g.verify(t, m)
		tracked(t, m, false)
		untold(t, m)
	}
	for _, unknown := range [][]string{{"woocommerce_email_headers", "coupon"}, {"some_plugins_email"}} {
		if said, err := execute(t, dir, slices.Concat(program, []string{"gone@example.org"}, unknown)...); err == nil || !strings.Contains(said, "550") && !strings.Contains(said, "5.7.1") {
			t.Errorf("%v to who has unsubscribed: %v\n%s", unknown, err, said)
		}
	}
}

// mailFunction sends by PHP's mail(), which calls msmtp as sendmail, and returns what to note of it.
func mailFunction(t *testing.T, g *gateway, end *sink, dir string) (with string) {
	php, err := exec.LookPath("php")
	if err != nil {
		t.Log("PHP is not here, so its mail() was not tried")
		return ""
	}
	write(t, dir+"/php.ini", replaced(t, file(t, dir+"/php.ini"), "/usr/bin/msmtp", needs(t, "msmtp")+" -C "+dir+"/msmtprc"))
	args := []string{php, "-c", "php.ini", "mail.php"}
	const to = "mail-function@example.org"
	if said, err := execute(t, dir, append(args, to)...); err != nil {
		t.Fatalf("mail(): %v\n%s", err, said)
	}
	g.judgeRecipe(t, end.await(t, recipeSender, to), false)
	if said, err := execute(t, dir, append(args, "gone@example.org")...); err == nil {
		t.Errorf("mail() to who has unsubscribed succeeds: %s", said)
	}
	return ", and mail() of PHP " + version(t, php, "-r", "echo PHP_VERSION;")
}

// What Mautic puts into its mail, each subscriber's own, treated as the subscriber agreed. The program itself is not here.
func TestRecipeMautic(t *testing.T) {
	t.Parallel()
	end := startSink(t)
	g := recipeGateway(t, end.url(), "[unsubscribe]", "[unsubscribe]\nchain = false") // no call to a host that is not there
	text := readRecipe(t, "mautic/campaign.eml")
	send := func(to string) error {
		mail := strings.NewReplacer("READER", to, "UNSUB", fmt.Sprintf("%x", to)[:12], "\n", "\r\n").Replace(text)
		client := dial(t, g.smtp)
		defer client.Close()
		return client.SendMail(recipeSender, []string{to}, strings.NewReader(mail))
	}
	for _, to := range []string{"none@example.org", "both@example.org"} {
		if err := send(to); err != nil {
			t.Fatal(err)
		}
		m := end.await(t, recipeSender, to)
		g.verify(t, m)
		g.openDKIM(t, m)
		body, agreed := unquoted.Replace(string(m.text)), to == "both@example.org"
		for _, tracker := range []string{".gif", "https://mkt.example.org/r/"} {
			if strings.Contains(body, tracker) != agreed {
				t.Errorf("%s: %s is in it: %v", to, tracker, !agreed)
			}
		}
		if strings.Contains(body, "data-consent-href") || !agreed && !strings.Contains(body, `href="`+destination+`"`) {
			t.Errorf("%s: the destination is not as it should be", to)
		}
		fields := regexp.MustCompile(`(?m)^List-Unsubscribe: <(.*)>\r$`).FindAllStringSubmatch(string(m.text), -1)
		if len(fields) != 1 || !strings.HasPrefix(fields[0][1], linkPrefix) || strings.Count(string(m.text), "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n") != 1 {
			t.Errorf("%s: the pair is not ours, once: %v", to, fields)
		}
		if t.Failed() {
			t.Fatalf("%s", m.text)
		}
		if agreed {
			continue
		}
		// The one click of a mailbox, and the next campaign is refused.
		resp, err := http.PostForm(strings.Replace(fields[0][1], "https://mail.example.org", "http://"+g.page, 1), url.Values{"List-Unsubscribe": {"One-Click"}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("one click: %s", resp.Status)
		}
		if err, refused := send(to).(*smtp.SMTPError); !refused || err.Code != 550 {
			t.Errorf("the next campaign: %v", err)
		}
	}
}

func file(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
