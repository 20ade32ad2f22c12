# Made of the command by go test ./cmd/consentgate -run Deploy -update.
# Bash: source it, or put it as "consentgate" into /usr/share/bash-completion/completions.

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
    "consentgate init"|"consentgate serve"|"consentgate demo"|"consentgate check-config"|"consentgate health"|"consentgate inspect"|"consentgate rewrite"|"consentgate consent"|"consentgate consent get"|"consentgate consent set"|"consentgate consent history"|"consentgate consent rename"|"consentgate consent erase"|"consentgate consent export"|"consentgate consent import"|"consentgate consent migrate"|"consentgate consent accept-store"|"consentgate queue"|"consentgate queue list"|"consentgate queue show"|"consentgate queue retry"|"consentgate queue remove"|"consentgate keygen"|"consentgate hash-password"|"consentgate verify-delivery"|"consentgate webhook-secret"|"consentgate version") at+=" ${COMP_WORDS[i]}" ;;
        esac
    done
    case "$at $prev" in
    "consentgate init --config") _consentgate_files -f; return ;;
    "consentgate init --state") _consentgate_files -d; return ;;
    "consentgate init --hostname") return ;;
    "consentgate init --smarthost") return ;;
    "consentgate init --smarthost-user") return ;;
    "consentgate init --public-url") return ;;
    "consentgate init --company") return ;;
    "consentgate init --dkim-domain") return ;;
    "consentgate init --dkim-selector") return ;;
    "consentgate init --store") return ;;
    "consentgate init --opaque-links") COMPREPLY=($(compgen -W "keep unlink reject" -- "$cur")); return ;;
    "consentgate init --user") return ;;
    "consentgate init --test-mail") return ;;
    "consentgate serve --config") _consentgate_files -f; return ;;
    "consentgate demo --listen") return ;;
    "consentgate check-config --config") _consentgate_files -f; return ;;
    "consentgate health --config") _consentgate_files -f; return ;;
    "consentgate inspect --config") _consentgate_files -f; return ;;
    "consentgate rewrite --open") COMPREPLY=($(compgen -W "granted denied" -- "$cur")); return ;;
    "consentgate rewrite --click") COMPREPLY=($(compgen -W "granted denied" -- "$cur")); return ;;
    "consentgate rewrite --to") return ;;
    "consentgate rewrite --scope") return ;;
    "consentgate rewrite --config") _consentgate_files -f; return ;;
    "consentgate consent get --config") _consentgate_files -f; return ;;
    "consentgate consent get --scope") return ;;
    "consentgate consent set --config") _consentgate_files -f; return ;;
    "consentgate consent set --scope") return ;;
    "consentgate consent set --mail") COMPREPLY=($(compgen -W "subscribed unsubscribed" -- "$cur")); return ;;
    "consentgate consent set --open") COMPREPLY=($(compgen -W "granted denied unset" -- "$cur")); return ;;
    "consentgate consent set --click") COMPREPLY=($(compgen -W "granted denied unset" -- "$cur")); return ;;
    "consentgate consent set --notice") return ;;
    "consentgate consent history --config") _consentgate_files -f; return ;;
    "consentgate consent rename --config") _consentgate_files -f; return ;;
    "consentgate consent erase --config") _consentgate_files -f; return ;;
    "consentgate consent export --config") _consentgate_files -f; return ;;
    "consentgate consent export --format") COMPREPLY=($(compgen -W "ndjson csv" -- "$cur")); return ;;
    "consentgate consent export --from") return ;;
    "consentgate consent export --output") _consentgate_files -f; return ;;
    "consentgate consent import --config") _consentgate_files -f; return ;;
    "consentgate consent import --format") COMPREPLY=($(compgen -W "ndjson csv" -- "$cur")); return ;;
    "consentgate consent import --map") return ;;
    "consentgate consent import --scope") return ;;
    "consentgate consent import --source-time") return ;;
    "consentgate consent import --notice") return ;;
    "consentgate consent migrate --config") _consentgate_files -f; return ;;
    "consentgate consent migrate --to") return ;;
    "consentgate consent migrate --from") return ;;
    "consentgate consent migrate --missing") COMPREPLY=($(compgen -W "erased keep" -- "$cur")); return ;;
    "consentgate consent accept-store --config") _consentgate_files -f; return ;;
    "consentgate queue list --config") _consentgate_files -f; return ;;
    "consentgate queue show --config") _consentgate_files -f; return ;;
    "consentgate queue retry --config") _consentgate_files -f; return ;;
    "consentgate queue remove --config") _consentgate_files -f; return ;;
    "consentgate keygen --domain") return ;;
    "consentgate keygen --selector") return ;;
    "consentgate verify-delivery --config") _consentgate_files -f; return ;;
    "consentgate webhook-secret --config") _consentgate_files -f; return ;;
    esac
    case "$at" in
    "consentgate") words="init serve demo check-config health inspect rewrite consent queue keygen hash-password verify-delivery webhook-secret version" flags="--help" files=false ;;
    "consentgate init") words="" flags="--config --state --hostname --smarthost --smarthost-user --public-url --company --dkim-domain --dkim-selector --store --opaque-links --user --test-mail --yes --example --help" files=false ;;
    "consentgate serve") words="" flags="--config --help" files=false ;;
    "consentgate demo") words="" flags="--once --listen --help" files=false ;;
    "consentgate check-config") words="" flags="--config --dns --help" files=false ;;
    "consentgate health") words="" flags="--config --live --help" files=false ;;
    "consentgate inspect") words="" flags="--config --json --help" files=true ;;
    "consentgate rewrite") words="" flags="--open --click --to --scope --config --help" files=false ;;
    "consentgate consent") words="get set history rename erase export import migrate accept-store" flags="--help" files=false ;;
    "consentgate consent get") words="" flags="--config --scope --json --help" files=false ;;
    "consentgate consent set") words="" flags="--config --scope --mail --open --click --notice --help" files=false ;;
    "consentgate consent history") words="" flags="--config --json --help" files=false ;;
    "consentgate consent rename") words="" flags="--config --help" files=false ;;
    "consentgate consent erase") words="" flags="--config --yes --help" files=false ;;
    "consentgate consent export") words="" flags="--config --format --with-addresses --withdrawn --from --output --help" files=false ;;
    "consentgate consent import") words="" flags="--config --format --map --scope --source-time --notice --dry-run --resume --help" files=true ;;
    "consentgate consent migrate") words="" flags="--config --to --from --merge --missing --stopped --help" files=false ;;
    "consentgate consent accept-store") words="" flags="--config --yes --help" files=false ;;
    "consentgate queue") words="list show retry remove" flags="--help" files=false ;;
    "consentgate queue list") words="" flags="--config --json --help" files=false ;;
    "consentgate queue show") words="" flags="--config --raw --json --help" files=false ;;
    "consentgate queue retry") words="" flags="--config --all --help" files=false ;;
    "consentgate queue remove") words="" flags="--config --help" files=false ;;
    "consentgate keygen") words="" flags="--dkim --domain --selector --rotate --behind --to-front --help" files=true ;;
    "consentgate hash-password") words="" flags="--help" files=false ;;
    "consentgate verify-delivery") words="" flags="--config --json --help" files=true ;;
    "consentgate webhook-secret") words="" flags="--config --help" files=false ;;
    "consentgate version") words="" flags="--help" files=false ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    elif $files; then
        _consentgate_files -f
    else
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    fi
}

complete -F _consentgate consentgate
