package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/credentials"
)

// dockerHub is the key that docker uses for its own registry.
const dockerHub = "https://index.docker.io/v1/"

func (a *app) loginCommand() *cobra.Command {
	var user, password string
	var fromStdin, unchecked bool
	reg := &flags.Registry{}
	cmd := &cobra.Command{
		Annotations: outside(),
		Use:         "login [OPTIONS] [REGISTRY]",
		Short:       "Check a user and password with a registry, and store them where docker does",
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
			check := a.checkLogin
			if unchecked {
				check = nil
			}
			return a.login(cmd.Context(), login{authKey(args), user, password}, reg.Access(), check)
		},
	}
	cmd.Flags().StringVarP(&user, "username", "u", "", "user")
	cmd.Flags().StringVarP(&password, "password", "p", "", "password (other users can see it; better --password-stdin)")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from stdin")
	cmd.Flags().BoolVar(&unchecked, "no-verify", false, "ask no registry whether the password is right")
	reg.RegisterTrust(cmd.Flags())
	return cmd
}

// login is what is stored: a user and a password under docker's name for a registry.
type login struct{ key, user, password string }

// login checks a password, unless check is nil, and stores it.
func (a *app) login(ctx context.Context, l login, access engine.Access, check func(context.Context, login, engine.Access) (string, error)) error {
	said := "not checked"
	if check != nil {
		var err error
		if said, err = check(ctx, l, access); err != nil {
			return err
		}
	}
	file, err := credentials.DockerFile()
	if err != nil {
		return mistake.New("%w", err)
	}
	helper, err := file.Put(ctx, l.key, l.user, l.password)
	if err != nil {
		return mistake.New("store the password: %w", err)
	}
	where := fmt.Sprintf("stored in %s, where it is not encrypted", file)
	if helper != "" {
		where = "stored by docker-credential-" + helper
	}
	_, err = fmt.Fprintf(a.std.Out, "Login succeeded: the password was %s, and is %s.\n", said, where)
	return err
}

// checkLogin asks the registry, and says what came of that.
func (a *app) checkLogin(ctx context.Context, l login, access engine.Access) (string, error) {
	host, _, _ := strings.Cut(l.key, "/")
	if l.key == dockerHub {
		host = "docker.io"
	}
	asked, err := registry.CheckLogin(ctx, host, l.user, l.password, registry.Options{
		Insecure: access.Insecure, Verify: access.Verify, CertDir: access.CertDir, UserAgent: "builder/" + a.version,
		Warn: func(text string) { a.warn(a.std.Err, text) },
	})
	switch {
	case errors.Is(err, registry.ErrUnauthorized):
		return "", fmt.Errorf("nothing is stored: %w", &wrongPasswordError{err})
	case err != nil:
		return "", fmt.Errorf("nothing is stored, since the password could not be checked (--no-verify stores it nevertheless): %w", err)
	case !asked:
		return "not checked (" + host + " asks for none at /v2/)", nil
	}
	return "accepted by " + host, nil
}

// wrongPasswordError is the refusal of a password that has just been typed: what to do
// about one that is stored is no help.
type wrongPasswordError struct{ err error }

// Error implements error.
func (e *wrongPasswordError) Error() string { return e.err.Error() }

// Unwrap makes the kind of failure visible, and no hint.
func (e *wrongPasswordError) Unwrap() error { return registry.ErrUnauthorized }

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Annotations: outside(),
		Use:         "logout [REGISTRY]",
		Short:       "Remove a registry's password from where docker stores it",
		Args:        rangeArgs(0, 1, "at most one registry"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := credentials.DockerFile()
			if err != nil {
				return mistake.New("%w", err)
			}
			helper, err := file.Remove(cmd.Context(), authKey(args))
			if errors.Is(err, credentials.ErrNoLogin) {
				_, err = fmt.Fprintf(a.std.Out, "Not logged in to %s\n", authKey(args))
				return err
			}
			if err != nil {
				return mistake.New("remove the password: %w", err)
			}
			where := string(file)
			if helper != "" {
				where = "docker-credential-" + helper
			}
			_, err = fmt.Fprintf(a.std.Out, "Removed from %s\n", where)
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
