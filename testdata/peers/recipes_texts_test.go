package peers

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// notRun is code that a recipe's text names, and that stands in no file that is run: fields of other programs' pages, what is
// set elsewhere than on the same machine, answers.
var notRun = map[string][]string{
	"django": {"PasswordResetView.as_view(form_class=PasswordResetForm)", "fail_silently", "451", "SMTPDataError",
		"EMAIL_USE_TLS", "EMAIL_HOST_USER", "EMAIL_HOST_PASSWORD", `"use_tls"`, `"username"`, `"password"`},
	"listmonk": {`"tls_type": "none"`, "tls_enabled", "451", "550 5.7.1 the recipient has unsubscribed from this mail", "consentgate consent set ADDRESS --mail subscribed",
		"POST /api/tx", `"headers": [{"X-Consent-Class": "transactional"}]`},
	"mautic": {"smtp", "config/local.php", "bin/console messenger:consume email", "sync://", "messenger_retry_strategy_max_retries",
		"X-Consent-Class: transactional", "mailer_custom_headers", `data-mautic-disable-tracking="true"`},
	"msmtp":             {"mail()", "451", "tls on", "auth on", "user", "passwordeval"},
	"nodemailer":        {"451", "port: 587", "responseCode"},
	"phpmailer":         {"451"},
	"postfix-behind":    {"postconf mynetworks smtpd_relay_restrictions", "smtp+starttls://", "message_size_limit", "X-Consent-Class: transactional"},
	"postfix-filter":    {"message_size_limit", "always_bcc", "default_process_limit", "pickup", "port 10025", "X-Consent-Class: transactional"},
	"postfix-relayhost": {"554 5.4.6", "452 4.5.3"},
	"smtplib":           {"451", "smtp.starttls()", "smtp.login()", "SMTPDataError"},
	"wordpress":         {"wp-content/mu-plugins/", "wp_mail", "451"},
}

// Each line that a recipe's text shows stands in one of its files, as it is, and so does each piece of code in a sentence,
// or in the gateway's configuration; and the newsletter holds what is judged.
func TestRecipeTexts(t *testing.T) {
	folders, err := filepath.Glob(recipesDir + "/*/README.md")
	if err != nil || len(folders) < 10 {
		t.Fatalf("%d recipes, %v", len(folders), err)
	}
	front := file(t, "../../README.md")
	_, front, _ = strings.Cut(front, "\n## Recipes\n")
	front, _, _ = strings.Cut(front, "\n## ")
	example := file(t, "../../deploy/consentgate.toml")
	// They have no queue, or none that waits for long.
	queueless := map[string]bool{"smtplib": true, "django": true, "nodemailer": true, "phpmailer": true, "msmtp": true, "wordpress": true, "mautic": true, "listmonk": true}
	for _, readme := range folders {
		dir := filepath.Dir(readme)
		name := filepath.Base(dir)
		files, err := filepath.Glob(dir + "/*")
		if err != nil {
			t.Fatal(err)
		}
		var all string
		for _, f := range files {
			if f != readme {
				all += "\n" + file(t, f)
			}
		}
		text, prose := file(t, readme), ""
		for line := range strings.Lines(text) {
			shown, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
			if !ok {
				prose += line
				continue
			}
			if !regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(strings.TrimSpace(shown)) + `$`).MatchString(all) {
				t.Errorf("%s shows %q, which no file beside it holds", readme, shown)
			}
		}
		// What is set elsewhere than on the same machine stands in the scripts of the tests with TLS.
		known := all + readRecipe(t, "consentgate.toml") + file(t, "nodemailer_send.js")
		named := map[string]bool{}
		for _, code := range inCode(prose) {
			named[code] = true
			if !strings.Contains(known, code) && !inConfiguration(example, code) && !slices.Contains(notRun[name], code) {
				t.Errorf("%s names `%s`, which no file that is run holds", readme, code)
			}
		}
		for _, code := range notRun[name] {
			if !named[code] {
				t.Errorf("%s no longer names %s", readme, code)
			}
		}
		if queueless[name] && !strings.Contains(prose, "set `delivery.mode = \"spool\"`") && !strings.Contains(prose, "Set `delivery.mode = \"spool\"`") {
			t.Errorf("%s does not say what becomes of mail while the store is away", readme)
		}
		for _, want := range []string{"Run with: [RESULTS.md](../RESULTS.md).", "X-Consent-Class"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", readme, want)
			}
		}
		// The front page's table names each, with code that stands in its files.
		_, row, ok := strings.Cut(front, "testdata/recipes/"+name+")")
		if !ok {
			t.Errorf("README.md does not name the recipe %s", name)
		}
		row, _, _ = strings.Cut(row, "\n")
		for _, code := range inCode(row) {
			if !strings.Contains(all, code) && !inConfiguration(example, code) {
				t.Errorf("README.md names `%s` for %s, which no file of it holds", code, name)
			}
		}
	}
	for _, f := range []string{"newsletter.html", "newsletter.txt"} {
		if text := readRecipe(t, f); !strings.Contains(text, counted) || f == "newsletter.html" && !strings.Contains(text, pixel) {
			t.Errorf("%s does not hold what is looked for", f)
		}
	}
}

// inCode returns what stands between backquotes, on one line each.
func inCode(text string) (all []string) {
	for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Join(strings.Fields(code[1]), " "))
	}
	return all
}

// inConfiguration reports whether a piece of code is of the gateway's configuration: section.key or section.key = value, a
// key of a login, or a value that a key has there.
func inConfiguration(example, code string) bool {
	name, value, _ := strings.Cut(code, " = ")
	section, key, ok := strings.Cut(name, ".")
	if !ok {
		section, key = "[login]", name
	}
	if code == "[["+strings.Trim(section, "[]")+"]]" {
		return true
	}
	if _, own, found := strings.Cut(example, "["+section+"]\n"); found {
		own, _, _ = strings.Cut(own, "\n[")
		if regexp.MustCompile(`(?m)^#?` + regexp.QuoteMeta(key) + ` = `).MatchString(own) {
			return strings.Contains(example, strings.Trim(value, `[]`))
		}
	}
	return value == "" && strings.Contains(example, `"`+code+`"`)
}
