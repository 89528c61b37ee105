package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/parser/mistake"
)

// maxSecret bounds a secret's size, as BuildKit does.
const maxSecret = 500 << 10

// secretSource is where one secret comes from: a file, a variable or the output of a
// command.
type secretSource struct{ file, env, cmd string }

// secrets are the secrets of a build by id. They are read when a step needs one.
type secrets map[string]secretSource

var _ executor.Secrets = secrets(nil)

// Secret implements executor.Secrets.
func (s secrets) Secret(ctx context.Context, id string) ([]byte, error) {
	src, ok := s[id]
	if !ok {
		return nil, fmt.Errorf("secret %s: %w", id, fs.ErrNotExist)
	}
	if src.env != "" {
		v, ok := os.LookupEnv(src.env)
		if !ok {
			return nil, fmt.Errorf("secret %s: environment variable %s: %w", id, src.env, fs.ErrNotExist)
		}
		return []byte(v), nil
	}
	if src.cmd != "" {
		return commandSecret(ctx, id, src.cmd)
	}
	f, err := os.Open(src.file)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", id, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", id, err)
	}
	if len(b) > maxSecret {
		return nil, fmt.Errorf("secret %s: %s is larger than %d bytes", id, src.file, maxSecret)
	}
	return b, nil
}

// parseSecrets reads --secret values: id=ID[,src=FILE][,env=NAME][,cmd=COMMAND]
// [,type=file|env].
// Without src and env, the variable ID is taken if it is set, else the file ID.
func parseSecrets(values []string) (secrets, error) {
	out := secrets{}
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

func parseSecret(fields []field) (id string, src secretSource, err error) {
	kind := ""
	for _, f := range fields {
		switch f.key {
		case "id":
			id = f.value
		case "src", "source":
			src.file = f.value
		case "env":
			src.env = f.value
		case "cmd":
			src.cmd = f.value
		case "type":
			if f.value != "file" && f.value != "env" {
				return "", src, fmt.Errorf("unknown type %q (use file or env)", f.value)
			}
			kind = f.value
		default:
			return "", src, fmt.Errorf("unknown key %q (use id, src, env, cmd or type)", f.key)
		}
	}
	if kind == "env" && src.env == "" {
		src.env, src.file = src.file, ""
	}
	if id == "" && src.file != "" {
		id = filepath.Base(src.file)
	}
	if id == "" {
		return "", src, fmt.Errorf("id is missing")
	}
	if src.file != "" && src.env != "" || src.cmd != "" && (src.file != "" || kind != "" || src.env != "") {
		return "", src, fmt.Errorf("only one of src, env and cmd can be given")
	}
	if src.cmd != "" {
		return id, src, nil
	}
	if src.file == "" && src.env == "" {
		if _, ok := os.LookupEnv(id); ok && kind != "file" || kind == "env" {
			src.env = id
		} else {
			src.file = id
		}
	}
	if src.file != "" {
		if _, err := os.Stat(src.file); err != nil {
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

// commandSecret runs a command on this machine; what it prints is the secret,
// without the line's end.
func commandSecret(ctx context.Context, id, command string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("secret %s: command %q: %w: %s", id, command, err, bytes.TrimSpace(stderr.Bytes()))
	}
	out = bytes.TrimSuffix(bytes.TrimSuffix(out, []byte("\n")), []byte("\r"))
	if len(out) > maxSecret {
		return nil, fmt.Errorf("secret %s: command %q printed more than %d bytes", id, command, maxSecret)
	}
	return out, nil
}
