package cli

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/snapshot/files"
)

// dockerHub is the key that docker uses for its own registry.
const dockerHub = "https://index.docker.io/v1/"

func (a *app) loginCommand() *cobra.Command {
	var user, password string
	var fromStdin bool
	cmd := &cobra.Command{
		Annotations: outside(),
		Use:         "login [OPTIONS] [REGISTRY]",
		Short:       "Store a user and password for a registry in docker's configuration",
		Args:        rangeArgs(0, 1, "at most one registry"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if password != "" && fromStdin {
				return mistake.New("--password and --password-stdin cannot be combined")
			}
			var err error
			if user == "" || password == "" {
				if user, password, err = a.credentials(user, fromStdin); err != nil {
					return err
				}
			}
			path, err := storeAuth(authKey(args), user, password)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.std.Out, "Stored in %s; the password is not encrypted and was not checked.\n", path)
			return err
		},
	}
	cmd.Flags().StringVarP(&user, "username", "u", "", "user")
	cmd.Flags().StringVarP(&password, "password", "p", "", "password (other users can see it; better --password-stdin)")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from stdin")
	return cmd
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Annotations: outside(),
		Use:         "logout [REGISTRY]",
		Short:       "Remove a registry's password from docker's configuration",
		Args:        rangeArgs(0, 1, "at most one registry"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := storeAuth(authKey(args), "", "")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.std.Out, "Removed from %s\n", path)
			return err
		},
	}
}

func authKey(args []string) string {
	if len(args) == 0 || args[0] == "docker.io" || args[0] == "index.docker.io" {
		return dockerHub
	}
	host := strings.TrimPrefix(strings.TrimPrefix(args[0], "https://"), "http://")
	return strings.TrimSuffix(host, "/")
}

// credentials asks for what the flags do not give.
func (a *app) credentials(user string, fromStdin bool) (string, string, error) {
	if fromStdin {
		if user == "" {
			return "", "", mistake.New("--password-stdin needs --username")
		}
		b, err := io.ReadAll(io.LimitReader(a.std.In, 64<<10))
		if err != nil {
			return "", "", err
		}
		password := strings.TrimRight(string(b), "\r\n")
		if password == "" {
			return "", "", mistake.New("the password on stdin is empty")
		}
		return user, password, nil
	}
	f, ok := a.std.In.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", "", mistake.New("no terminal to ask for the password").WithHint("use --username and --password-stdin")
	}
	if user == "" {
		fmt.Fprint(a.std.Err, "Username: ")
		line, err := bufio.NewReader(f).ReadString('\n')
		if err != nil {
			return "", "", err
		}
		user = strings.TrimSpace(line)
	}
	fmt.Fprint(a.std.Err, "Password: ")
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.std.Err)
	if err == nil && (user == "" || len(b) == 0) {
		err = mistake.New("user and password must not be empty")
	}
	return user, string(b), err
}

// storeAuth writes (or, without a user, removes) one entry of docker's
// config.json and keeps all else that is in it.
func storeAuth(key, user, password string) (string, error) {
	path, err := dockerConfig()
	if err != nil {
		return "", err
	}
	config := map[string]json.RawMessage{}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &config)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", mistake.New("read %s: %w", path, err)
	}
	if user != "" {
		if err := noHelper(config, key, path); err != nil {
			return "", err
		}
	}
	auths := map[string]json.RawMessage{}
	if len(config["auths"]) > 0 {
		if err := json.Unmarshal(config["auths"], &auths); err != nil {
			return "", mistake.New("read %s: auths: %w", path, err)
		}
	}
	delete(auths, key)
	if user != "" {
		enc := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		auths[key] = json.RawMessage(fmt.Sprintf("{\"auth\":%q}", enc))
	}
	if config["auths"], err = json.Marshal(auths); err != nil {
		return "", err
	}
	if raw, err = json.MarshalIndent(config, "", "\t"); err != nil {
		return "", err
	}
	return path, writePrivate(path, raw)
}

// noHelper refuses to write a password that a credential helper would shadow.
func noHelper(config map[string]json.RawMessage, key, path string) error {
	helpers := map[string]string{}
	if raw := config["credHelpers"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &helpers); err != nil {
			return mistake.New("read %s: credHelpers: %w", path, err)
		}
	}
	var all string
	if raw := config["credsStore"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &all); err != nil {
			return mistake.New("read %s: credsStore: %w", path, err)
		}
	}
	if h := helpers[key]; h != "" {
		all = h
	}
	if all != "" {
		return mistake.Unsupported("storing a password with the credential helper "+all,
			"use docker login, or docker-credential-"+all+" store; builder reads what it stores")
	}
	return nil
}

func dockerConfig() (string, error) {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, "config.json"), nil
}

// writePrivate replaces a file that only its owner may read.
func writePrivate(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return files.WriteBytes(path, 0o600, data)
}
