package peers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consentgate/consentgate/relay/metrics"
)

const (
	deploy     = "../../deploy"
	runbookURL = "https://github.com/consentgate/consentgate/blob/main/deploy/RUNBOOK.md#"
)

// What Prometheus' own tool says of the alerts: that they can be read, and that each fires where it should.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool := needs(t, "promtool")
	for _, args := range [][]string{{"check", "rules", deploy + "/prometheus/alerts.yml"}, {"test", "rules", deploy + "/prometheus/alerts_test.yml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// A real Prometheus scrapes a real gateway under mail, loads the alerts, and answers every query of theirs and of the
// Grafana board, which name nothing that the gateway does not have. Each alert has its heading in the runbook.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	program, promtool := needs(t, "prometheus"), needs(t, "promtool")
	next := startSink(t)
	g := startGateway(t, next.url())
	g.agree(t, "both@example.org")
	s := sender(t, g)
	for _, to := range []string{"none@example.org", "both@example.org", "later@example.org"} {
		if err := submit(t, s, letter, "news@shop.example.net", false, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := submit(t, s, letter, "news@shop.example.net", false, "refused@example.org"); err == nil {
		t.Error("somebody unknown was taken")
	}
	next.await(t, "news@shop.example.net", "later@example.org")

	text := scrape(t, "http://"+g.admin+"/metrics")
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	described := metrics.New()
	described.Ask(metrics.Sources{})
	known, labels := map[string]bool{}, map[string]bool{"instance": true, "job": true, "le": true}
	for _, d := range described.Describe() {
		for _, l := range d.Labels {
			labels[l] = true
		}
		known[d.Name] = true
		if d.Kind == "histogram" {
			known[d.Name+"_bucket"], known[d.Name+"_count"], known[d.Name+"_sum"] = true, true, true
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+) `).FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(m[1], "consentgate_") && !known[m[1]] {
			t.Errorf("/metrics has %s, which is not described", m[1])
		}
		known[m[1]] = true
	}
	for _, address := range []string{"example.org", "shop.example.net", "reader"} {
		if strings.Contains(text, address) {
			t.Errorf("/metrics names %s", address)
		}
	}

	port, dir := freePort(t), t.TempDir()
	rules, err := filepath.Abs(deploy + "/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	write(t, config, fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n- job_name: consentgate\n  static_configs: [{targets: [%q]}]\n", rules, g.admin))
	p := start(t, exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:"+port, "--log.level=warn"))
	ask := func(path string, into any) error {
		resp, err := http.Get("http://127.0.0.1:" + port + path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		var answer struct {
			Status, Error string
			Data          json.RawMessage
		}
		if err := json.Unmarshal(said, &answer); err != nil {
			return fmt.Errorf("%s: %.200s", resp.Status, said)
		}
		if answer.Status != "success" {
			return fmt.Errorf("%s: %s", answer.Status, answer.Error)
		}
		return json.Unmarshal(answer.Data, into)
	}
	query := func(expr string) (values []float64, err error) {
		var data struct {
			Result []struct{ Value [2]any }
		}
		if err := ask("/api/v1/query?query="+url.QueryEscape(expr), &data); err != nil {
			return nil, err
		}
		for _, r := range data.Result {
			var v float64
			fmt.Sscan(fmt.Sprint(r.Value[1]), &v)
			values = append(values, v)
		}
		return values, nil
	}
	p.ready(t, func() bool {
		v, err := query(`count_over_time(consentgate_forwarded_total{class="marketing"}[1m]) > 2`)
		return err == nil && len(v) == 1
	})
	for expr, want := range map[string]float64{
		`sum(consentgate_accepted_total)`:                                                               3,
		`sum(consentgate_forwarded_total)`:                                                              3,
		`sum(consentgate_deferred_total{reason="answer"})`:                                              1,
		`sum(consentgate_bounced_total{reason="answer"})`:                                               1,
		`sum(consentgate_trackers_removed_total{kind="open",vector="img"})`:                             2,
		`sum(consentgate_links_undone_total)`:                                                           2,
		`sum(consentgate_trackers_kept_total{how="kept"})`:                                              2,
		`sum(consentgate_signatures_total{result="signed"})`:                                            3,
		`sum(consentgate_decisions_total{purpose="open",decision="granted",reason="scope"})`:            1,
		`sum(consentgate_consent_changes_total{source="api",purpose="open",state="granted"})`:           1,
		`sum(consentgate_smarthost_request_duration_seconds_count{result="accepted"})`:                  3,
		`sum(consentgate_smtp_connections_total{protocol="smtp"})`:                                      1,
		`min(consentgate_store_up)`:                                                                     1,
		`min(consentgate_spool_writable)`:                                                               1,
		`max(consentgate_spool_messages)`:                                                               0,
		`up{job="consentgate"}`:                                                                         1,
		`count(consentgate_build_info{mode="cutthrough"})`:                                              1,
		`count(consentgate_certificate_expiry_timestamp_seconds{listener="smtp"} > time()) + vector(0)`: 1,
	} {
		if v, err := query(expr); err != nil || len(v) != 1 || v[0] != want {
			t.Errorf("%s is %v, %v; want %v", expr, v, err, want)
		}
	}

	// The alerts.
	var loaded struct {
		Groups []struct {
			Rules []struct {
				Name, Query, Health, LastError, State string
				Annotations, Labels                   map[string]string
			}
		}
	}
	if err := ask("/api/v1/rules?type=alert", &loaded); err != nil {
		t.Fatal(err)
	}
	runbook, err := os.ReadFile(deploy + "/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	tested, err := os.ReadFile(deploy + "/prometheus/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	headings := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(string(runbook), -1) {
		headings[m[1]] = true
	}
	queries := map[string]string{} // by where they stand
	for _, group := range loaded.Groups {
		for _, r := range group.Rules {
			queries["alert "+r.Name] = r.Query
			if r.LastError != "" || r.Health == "err" {
				t.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
			}
			if r.State != "inactive" && r.Name != "ConsentgateCertificateEnds" {
				t.Errorf("%s is %s though all is well", r.Name, r.State) // but for the certificate of a test, which ends soon
			}
			if r.Annotations["runbook_url"] != runbookURL+strings.ToLower(r.Name) || !headings[r.Name] || !slices.Contains([]string{"page", "ticket", "info"}, r.Labels["severity"]) {
				t.Errorf("%s leads to %q, severity %q; the runbook has the headings %v", r.Name, r.Annotations["runbook_url"], r.Labels["severity"], headings)
			}
			if r.Annotations["summary"] == "" || !strings.Contains(r.Annotations["description"], " Begin with ") {
				t.Errorf("%s says %q, %q, and not what to do first", r.Name, r.Annotations["summary"], r.Annotations["description"])
			}
			if !bytes.Contains(tested, []byte("alertname: "+r.Name+"\n")) || !bytes.Contains(tested, []byte(`alertname="`+r.Name+`"`)) {
				t.Errorf("%s is not tested in alerts_test.yml", r.Name)
			}
			delete(headings, r.Name)
		}
	}
	if len(queries) < 15 || len(headings) > 0 {
		t.Errorf("%d alerts; headings without one: %v", len(queries), headings)
	}

	// The board.
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	file, err := os.ReadFile(deploy + "/grafana/consentgate.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(file, &board); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$job", "consentgate")
	for _, panel := range board.Panels {
		for i, target := range panel.Targets {
			queries[fmt.Sprintf("panel %s, query %d", panel.Title, i+1)] = variables.Replace(target.Expr)
			if !strings.Contains(target.Expr, `job=~"$job",instance=~"$instance"`) {
				t.Errorf("panel %s does not ask for the job and the instances that were chosen: %s", panel.Title, target.Expr)
			}
		}
	}
	for _, a := range board.Annotations.List {
		queries["annotation "+a.Name] = variables.Replace(a.Expr)
	}
	if len(queries) < 60 {
		t.Errorf("only %d queries are tried", len(queries))
	}
	// One more copy, of which the rates know.
	if err := submit(t, s, letter, "news@shop.example.net", false, "fourth@example.org"); err != nil {
		t.Fatal(err)
	}
	p.ready(t, func() bool {
		v, err := query(`increase(consentgate_smarthost_request_duration_seconds_count{result="accepted"}[1m]) > 0`)
		return err == nil && len(v) == 1
	})
	name := regexp.MustCompile(`\b(?:consentgate|process|go)_\w+`)
	by := regexp.MustCompile(`\b(?:by|without|on) \(([a-z, ]*)\)|[{,]\s*(\w+)\s*[=!]`)
	selector := regexp.MustCompile(`\b(\w+)\{([^}]*)\}`)
	matcher := regexp.MustCompile(`(\w+)(?:=~|!=|!~|=)"([^"]*)"`)
	there := map[string]bool{}
	for where, expr := range queries {
		v, err := query(expr)
		if err != nil {
			t.Errorf("%s: %s: %v", where, expr, err)
		}
		// An alert has nothing to say where all is well, nor has the mark of a new version where there is none.
		if strings.HasPrefix(where, "panel") && (len(v) == 0 || !slices.ContainsFunc(v, func(v float64) bool { return !math.IsNaN(v) })) {
			t.Errorf("%s shows nothing: %s is %v", where, expr, v)
		}
		for _, n := range name.FindAllString(expr, -1) {
			if !known[n] {
				t.Errorf("%s names %s, which the gateway does not have", where, n)
			}
		}
		for _, m := range by.FindAllStringSubmatch(expr, -1) {
			for _, l := range strings.FieldsFunc(m[1]+","+m[2], func(r rune) bool { return r == ',' || r == ' ' }) {
				if !labels[l] && l != "version" {
					t.Errorf("%s names the label %s, which no metric has", where, l)
				}
			}
		}
		// Each value that a label is compared with is one that it has, also where the alert is silent for it now.
		for _, s := range selector.FindAllStringSubmatch(expr, -1) {
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				for value := range strings.SplitSeq(m[2], "|") {
					series := fmt.Sprintf("%s{%s=~%q}", s[1], m[1], value)
					if there[series] {
						continue
					}
					there[series] = true
					if v, err := query("count(" + series + ")"); err != nil || len(v) != 1 {
						t.Errorf("%s: there is no %s (%v)", where, series, err)
					}
				}
			}
		}
	}
}

// scrape gets what Prometheus would.
func scrape(t testing.TB, address string) string {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return string(text)
}
