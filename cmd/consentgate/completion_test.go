package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const completions = "../../deploy/completions/"

const madeOfCode = "# Made of the command by go test ./cmd/consentgate -run Deploy -update.\n"

// names of flags with their dashes, without --help, which all have and nobody looks for.
func flagNames(v *verbDoc) []string {
	var names []string
	for _, f := range v.flags {
		if f.name != "help" {
			names = append(names, "--"+f.name)
		}
	}
	return names
}

func verbNames(v *verbDoc) []string {
	var names []string
	for _, below := range v.verbs {
		names = append(names, below.name())
	}
	return names
}

// bashCompletion writes a function that finds the verb among the words before, and a table of what each takes.
func bashCompletion(command *verbDoc) string {
	var paths []string
	var verbs, values strings.Builder
	for _, v := range command.all() {
		if v != command {
			paths = append(paths, fmt.Sprintf("%q", v.path))
		}
		fmt.Fprintf(&verbs, "    %q) words=%q flags=%q files=%v ;;\n", v.path, strings.Join(verbNames(v), " "), strings.Join(append(flagNames(v), "--help"), " "), v.takesFiles())
		for _, f := range v.flags {
			switch {
			case f.holder == "":
			case f.choices != nil:
				fmt.Fprintf(&values, "    \"%s --%s\") COMPREPLY=($(compgen -W %q -- \"$cur\")); return ;;\n", v.path, f.name, strings.Join(f.choices, " "))
			case f.kind == "file":
				fmt.Fprintf(&values, "    \"%s --%s\") _consentgate_files -f; return ;;\n", v.path, f.name)
			case f.kind == "folder":
				fmt.Fprintf(&values, "    \"%s --%s\") _consentgate_files -d; return ;;\n", v.path, f.name)
			default:
				fmt.Fprintf(&values, "    \"%s --%s\") return ;;\n", v.path, f.name)
			}
		}
	}
	return madeOfCode + `# Bash: source it, or put it as "consentgate" into /usr/share/bash-completion/completions.

_consentgate_files() {
    local IFS=$'\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen "$1" -- "$cur"))
}

_consentgate() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev= at=consentgate words= flags= files=false i
    COMPREPLY=()
    ((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD-1]}
    # Bash makes --flag=value three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$at ${COMP_WORDS[i]}" in
    ` + strings.Join(paths, "|") + `) at+=" ${COMP_WORDS[i]}" ;;
        esac
    done
    case "$at $prev" in
` + values.String() + `    esac
    case "$at" in
` + verbs.String() + `    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    elif $files; then
        _consentgate_files -f
    else
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    fi
}

complete -F _consentgate consentgate
`
}

// zshCompletion writes a function for each verb.
func zshCompletion(command *verbDoc) string {
	var b strings.Builder
	b.WriteString("#compdef consentgate\n" + madeOfCode + "# Zsh: put it as \"_consentgate\" into a folder of $fpath.\n")
	quote := func(s string) string { // inside single quotes, in brackets and behind a colon
		return strings.NewReplacer("'", `'\''`, "[", `\[`, "]", `\]`, ":", `\:`).Replace(s)
	}
	all := command.all()
	slices.Reverse(all) // a function before who calls it
	for _, v := range all {
		function := "_" + strings.NewReplacer(" ", "_", "-", "_").Replace(v.path)
		fmt.Fprintf(&b, "\n%s() {\n", function)
		if len(v.verbs) > 0 {
			b.WriteString("    local -a verbs=(\n")
			for _, below := range v.verbs {
				fmt.Fprintf(&b, "        '%s:%s'\n", below.name(), quote(below.help))
			}
			b.WriteString("    )\n    local state line\n    _arguments -C '--help[Show help.]' '1: :->verb' '*:: :->rest'\n    case $state in\n    verb) _describe -t commands verb verbs ;;\n    rest)\n        case $line[1] in\n")
			for _, below := range v.verbs {
				fmt.Fprintf(&b, "        %s) %s_%s ;;\n", below.name(), function, strings.ReplaceAll(below.name(), "-", "_"))
			}
			b.WriteString("        esac ;;\n    esac\n}\n")
			continue
		}
		action := func(a value) string {
			switch {
			case a.choices != nil:
				return "(" + strings.Join(a.choices, " ") + ")"
			case a.kind == "file":
				return "_files"
			case a.kind == "folder":
				return "_files -/"
			}
			return " "
		}
		b.WriteString("    _arguments \\\n")
		for _, f := range v.flags {
			if f.holder == "" {
				fmt.Fprintf(&b, "        '--%s[%s]' \\\n", f.name, quote(f.help))
			} else {
				fmt.Fprintf(&b, "        '--%s=[%s]:%s:%s' \\\n", f.name, quote(f.help), quote(f.holder), action(f))
			}
		}
		for i, a := range v.args {
			where, colon := fmt.Sprint(i+1), ":"
			if a.many {
				where = "*"
			} else if a.optional {
				colon = "::"
			}
			fmt.Fprintf(&b, "        '%s%s%s:%s' \\\n", where, colon, quote(a.holder), action(a))
		}
		b.WriteString("        && return\n}\n")
	}
	b.WriteString("\n_consentgate \"$@\"\n")
	return b.String()
}

// fishCompletion writes a line for each verb and flag, all of them asked where the words before lead.
func fishCompletion(command *verbDoc) string {
	var paths []string
	for _, v := range command.all()[1:] {
		paths = append(paths, "'"+v.path+"'")
	}
	var b strings.Builder
	b.WriteString(madeOfCode + `# Fish: put it as "consentgate.fish" into ~/.config/fish/completions.

function __consentgate_at
    set -l at consentgate
    for word in (commandline -opc)[2..-1]
        if contains -- "$at $word" ` + strings.Join(paths, " ") + `
            set at "$at $word"
        end
    end
    test "$at" = "$argv"
end

complete -c consentgate -f
`)
	quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'" }
	for _, v := range command.all() {
		at := "complete -c consentgate -n '__consentgate_at " + v.path + "'"
		for _, below := range v.verbs {
			fmt.Fprintf(&b, "%s -a %s -d %s\n", at, below.name(), quote(below.help))
		}
		for _, f := range v.flags {
			takes := ""
			switch {
			case f.holder == "":
			case f.choices != nil:
				takes = " -x -a '" + strings.Join(f.choices, " ") + "'"
			case f.kind == "file":
				takes = " -r -F"
			case f.kind == "folder":
				takes = " -x -a '(__fish_complete_directories)'"
			default:
				takes = " -x"
			}
			fmt.Fprintf(&b, "%s -l %s%s -d %s\n", at, f.name, takes, quote(f.help))
		}
		if v.takesFiles() {
			b.WriteString(at + " -F\n")
		}
	}
	return b.String()
}

func TestDeployCompletions(t *testing.T) {
	command := described()
	if *update {
		if err := os.MkdirAll(completions, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	holdTo(t, completions+"consentgate.bash", bashCompletion(command))
	holdTo(t, completions+"_consentgate", zshCompletion(command))
	holdTo(t, completions+"consentgate.fish", fishCompletion(command))
}

// typed are lines as somebody types them before the tab key, and what is then offered.
var typed = []struct {
	line string
	want []string // all of it, sorted; nil: nothing
}{
	{"consentgate ch", []string{"check-config"}},
	{"consentgate consent e", []string{"erase", "export"}},
	{"consentgate queue ", []string{"list", "remove", "retry", "show"}},
	{"consentgate check-config --d", []string{"--dns"}},
	{"consentgate init --opaque-links ", []string{"keep", "reject", "unlink"}},
	{"consentgate init --opaque-links=u", []string{"unlink"}},
	{"consentgate rewrite --click granted --open d", []string{"denied"}},
	{"consentgate serve --config ", []string{"a letter.eml", "folder/", "other.toml"}},
	{"consentgate serve --config oth", []string{"other.toml"}},
	{"consentgate init --state ", []string{"folder/"}},
	{"consentgate init --hostname ", nil},
	{"consentgate inspect oth", []string{"other.toml"}},
	{"consentgate consent get x", nil},
	{"consentgate version x", nil},
}

// cabinet is a folder with files to be completed.
func cabinet(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a letter.eml", "other.toml"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shell runs a script in a shell, in dir, and returns what it prints, line by line and sorted.
func shell(t *testing.T, dir string, name string, args ...string) []string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not in PATH; this test needs a real one (make need installs it on Debian)", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a shell that waits for more would wait for ever
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir+"/.config", "XDG_DATA_HOME="+dir+"/.data", "TERM=dumb", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	var lines []string
	for l := range strings.Lines(string(out)) {
		if l = strings.TrimRight(l, "\r\n"); l != "" {
			lines = append(lines, l)
		}
	}
	slices.Sort(lines)
	return lines
}

// made returns the absolute path of a completion in deploy.
func made(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(completions + name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func offered(t *testing.T, line string, want, got []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%q: %q is offered, want %q", line, got, want)
	}
}

// Bash is given the words as readline cuts them, which parts a flag from its value at the equals sign.
func TestBashCompletion(t *testing.T) {
	dir := cabinet(t)
	for _, tt := range typed {
		got := shell(t, dir, "bash", "--norc", "--noprofile", "-c", `source "$1"
line=${2//=/ = }
read -ra COMP_WORDS <<< "$line"
[[ $line == *' ' ]] && COMP_WORDS+=("")
COMP_LINE=$2 COMP_POINT=${#2} COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
complete -p consentgate > /dev/null
_consentgate
printf '%s\n' "${COMPREPLY[@]}"`, "bash", made(t, "consentgate.bash"), tt.line)
		want := slices.Clone(tt.want)
		for i := range want {
			want[i] = strings.TrimSuffix(want[i], "/") // which readline puts behind a folder
		}
		offered(t, tt.line, want, got)
	}
}

func TestFishCompletion(t *testing.T) {
	dir := cabinet(t)
	for _, tt := range typed {
		got := shell(t, dir, "fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", made(t, "consentgate.fish"), tt.line)
		for i := range got {
			got[i], _, _ = strings.Cut(got[i], "\t")
			got[i] = strings.TrimPrefix(got[i], "--opaque-links=")
		}
		offered(t, tt.line, tt.want, got)
	}
}

// zshOutside types each line and the tab key into a shell on a pseudo terminal, and prints the line's number
// and what was offered.
const zshOutside = `zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "source $1 $2"
while zpty -r shell said; do [[ $said == *READY* ]] && break; done
shift 2
for ((i = 1; i <= $#; i++)); do
    zpty -w -n shell $'\x15'"${@[i]}"$'\t' # the first empties the line
    while zpty -r shell said; do
        said=${said%%[$'\r\n']##}
        [[ $said == *DONE* ]] && break
        [[ $said == offer:* ]] && print -r -- "$i ${(Q)said#offer:}"
    done
done
zpty -d shell
`

// zshInside is that shell: it says what is offered rather than to show it.
const zshInside = `PROMPT= RPROMPT=
fpath=($1 $fpath)
autoload -Uz compinit && compinit -u -D
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        local -a offers
        builtin compadd -A offers "$@"
        (($#offers)) && printf 'offer:%s\n' $offers
    fi
    builtin compadd "$@"
}
offer() {
    print
    _main_complete
    compstate[insert]= compstate[list]=
    print DONE
}
zle -C offer complete-word offer
bindkey '^I' offer
stty -echo -onlcr
print READ''Y
`

func TestZshCompletion(t *testing.T) {
	dir, scripts := cabinet(t), t.TempDir()
	inside := filepath.Join(scripts, "inside")
	if err := os.WriteFile(inside, []byte(zshInside), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-f", "-c", zshOutside, "zsh", inside, filepath.Dir(made(t, "_consentgate"))}
	for _, tt := range typed {
		args = append(args, tt.line)
	}
	said := slices.Compact(shell(t, dir, "zsh", args...))
	for i, tt := range typed {
		var got []string
		for _, l := range said {
			if offer, ok := strings.CutPrefix(l, fmt.Sprint(i+1, " ")); ok {
				got = append(got, offer)
			}
		}
		want := slices.Clone(tt.want)
		for j := range want {
			want[j] = strings.TrimSuffix(want[j], "/") // which is put behind a folder later
		}
		offered(t, tt.line, want, got)
	}
}
