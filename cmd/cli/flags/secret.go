package flags

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"layered.build/builder/cmd/build/inputs"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
)

// parseSecrets reads --secret values: id=ID[,src=FILE][,env=NAME][,cmd=COMMAND]
// [,type=file|env].
// Without src and env, the variable ID is taken if it is set, else the file ID.
func parseSecrets(values []string) (inputs.Secrets, error) {
	out := inputs.Secrets{}
	for _, v := range values {
		fields, err := parseCSV(v)
		if err != nil {
			return nil, mistake.New("--secret %q: %w", v, err)
		}
		id, src, err := parseSecret(fields)
		if err != nil {
			return nil, mistake.New("--secret %q: %w", v, err)
		}
		out[id] = src
	}
	return out, nil
}

// parseSecretScan reads --secret-scan.
func parseSecretScan(value string) (dag.SecretScan, error) {
	scan, ok := dag.ParseSecretScan(value)
	if !ok && value != "" {
		return scan, mistake.New("--secret-scan=%s: want error, warn or off", value)
	}
	return scan, nil
}

func parseSecret(fields []field) (id string, src inputs.SecretSource, err error) {
	kind := ""
	for _, f := range fields {
		switch f.key {
		case "id":
			id = f.value
		case "src", "source":
			src.File = f.value
		case "env":
			src.Env = f.value
		case "cmd":
			src.Cmd = f.value
		case "type":
			if f.value != "file" && f.value != "env" {
				return "", src, fmt.Errorf("unknown type %q (use file or env)", f.value)
			}
			kind = f.value
		default:
			return "", src, fmt.Errorf("unknown key %q (use id, src, env, cmd or type)", f.key)
		}
	}
	if kind == "env" && src.Env == "" {
		src.Env, src.File = src.File, ""
	}
	if id == "" && src.File != "" {
		id = filepath.Base(src.File)
	}
	if id == "" {
		return "", src, fmt.Errorf("id is missing")
	}
	if src.File != "" && src.Env != "" || src.Cmd != "" && (src.File != "" || kind != "" || src.Env != "") {
		return "", src, fmt.Errorf("only one of src, env and cmd can be given")
	}
	if src.Cmd != "" {
		return id, src, nil
	}
	if src.File == "" && src.Env == "" {
		if _, ok := os.LookupEnv(id); ok && kind != "file" || kind == "env" {
			src.Env = id
		} else {
			src.File = id
		}
	}
	if src.File != "" {
		if _, err := os.Stat(src.File); err != nil {
			return "", src, err
		}
	}
	return id, src, nil
}

// field is one key=value of a comma-separated flag.
type field struct{ key, value string }

// parseCSV splits "a=b,c" the way docker's flags are: quoted like CSV.
func parseCSV(s string) ([]field, error) {
	parts, err := splitCSV(s)
	if err != nil {
		return nil, err
	}
	var out []field
	for _, p := range parts {
		key, value, _ := strings.Cut(p, "=")
		out = append(out, field{key: strings.ToLower(strings.TrimSpace(key)), value: value})
	}
	return out, nil
}
