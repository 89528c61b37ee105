// Package credentials finds what is to be presented to registries where docker and
// podman keep it.
package credentials

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"layered.build/builder/registry/errdef"
)

// Source finds credentials. It is safe for concurrent use.
type Source interface {
	// Get returns what is to be presented for a repository of a host[:port]; nothing is
	// the zero Credential. An error ends the request.
	Get(host, repo string) (Credential, error)
}

// Login is a user and a password; about says where they are from, for error messages.
func Login(user, password, about string) Credential {
	return Credential{Auth: authn.AuthConfig{Username: user, Password: password}, About: about}
}

// Keychain finds credentials where docker and podman keep them: docker's
// config.json with its credential helpers, then podman's auth.json.
type Keychain struct {
	// docker and podman are files; those that do not exist count as empty.
	docker string
	podman []string

	mu    sync.Mutex
	found map[string]Credential // guarded by mu
}

var _ Source = (*Keychain)(nil)

// Credential is what is presented to one registry.
type Credential struct {
	Auth authn.AuthConfig // the zero value is none
	// About says what is used, without the secret.
	About string
}

// New looks in dir, else in $DOCKER_CONFIG, else in ~/.docker; then where
// podman looks (containers-auth.json(5)).
func New(dir string) *Keychain {
	home, _ := os.UserHomeDir()
	if dir == "" {
		dir = os.Getenv("DOCKER_CONFIG")
	}
	if dir == "" && home != "" {
		dir = filepath.Join(home, ".docker")
	}
	k := &Keychain{docker: filepath.Join(dir, "config.json"), found: map[string]Credential{}}
	if f := os.Getenv("REGISTRY_AUTH_FILE"); f != "" {
		k.podman = append(k.podman, f)
	}
	if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
		k.podman = append(k.podman, filepath.Join(run, "containers", "auth.json"))
	}
	user := os.Getenv("XDG_CONFIG_HOME")
	if user == "" && home != "" {
		user = filepath.Join(home, ".config")
	}
	if user != "" {
		k.podman = append(k.podman, filepath.Join(user, "containers", "auth.json"))
	}
	return k
}

// Get returns the credentials for a repository of a host[:port]. A file that cannot be read is an
// error; a credential helper that fails leaves the request anonymous, as docker
// does, and is told in the credential's description.
func (k *Keychain) Get(host, repo string) (Credential, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := host + "/" + repo
	if c, ok := k.found[key]; ok {
		return c, nil
	}
	c, err := k.lookup(host, repo)
	if err == nil {
		k.found[key] = c
	}
	return c, err
}

func (k *Keychain) lookup(host, repo string) (Credential, error) {
	var failed []string
	for i, path := range append([]string{k.docker}, k.podman...) {
		cf, err := loadAuthFile(path)
		if err != nil {
			return Credential{}, fmt.Errorf("read credentials: %w", err)
		}
		if cf == nil {
			continue
		}
		auth, err := lookupFile(cf, host, repo, i > 0)
		if credentials.IsErrCredentialsNotFound(err) {
			continue
		}
		if err != nil {
			failed = append(failed, helperFailure(cf, host, path, err))
			continue
		}
		if auth != (types.AuthConfig{}) {
			return newCredential(auth, path), nil
		}
	}
	about := "none"
	if len(failed) > 0 {
		about += "; " + strings.Join(failed, "; ")
	}
	return Credential{About: about}, nil
}

func loadAuthFile(path string) (*configfile.ConfigFile, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cf, err := config.LoadFromReader(f)
	if err != nil {
		// The cause could quote the file's content.
		return nil, fmt.Errorf("%s: %w: not a docker configuration file", path, errdef.ErrInvalid)
	}
	return cf, nil
}

// lookupFile asks for the keys under which a file may have a repository's
// credentials: podman's files also have keys with a path.
func lookupFile(cf *configfile.ConfigFile, host, repo string, podman bool) (types.AuthConfig, error) {
	if podman {
		for key := host + "/" + repo; key != host && strings.Contains(key, "/"); key = key[:strings.LastIndex(key, "/")] {
			if auth, ok := cf.AuthConfigs[key]; ok {
				return cleanAuth(auth), nil
			}
		}
		// docker's code would take a key with a path for its host.
		for key := range cf.AuthConfigs {
			if !strings.Contains(key, "://") && strings.Contains(key, "/") {
				delete(cf.AuthConfigs, key)
			}
		}
	}
	keys := []string{host}
	if host == name.DefaultRegistry {
		keys = []string{authn.DefaultAuthKey, "docker.io"}
	}
	for _, key := range keys {
		auth, err := cf.GetAuthConfig(key)
		if err != nil {
			return types.AuthConfig{}, err
		}
		if auth = cleanAuth(auth); auth != (types.AuthConfig{}) {
			return auth, nil
		}
	}
	return types.AuthConfig{}, nil
}

func cleanAuth(a types.AuthConfig) types.AuthConfig {
	a.ServerAddress, a.Auth = "", ""
	return a
}

// helperFailure describes a failed credential helper without what it printed:
// that may be a secret.
func helperFailure(cf *configfile.ConfigFile, host, path string, err error) string {
	helper := cf.CredentialsStore
	if h := cf.CredentialHelpers[host]; h != "" {
		helper = h
	}
	text, _, _ := strings.Cut(err.Error(), ", out:")
	if i := strings.LastIndex(text, "err: "); i >= 0 {
		text = text[i+len("err: "):]
	} else {
		text = "answer not understood"
	}
	return fmt.Sprintf("docker-credential-%s (%s) failed: %s", helper, path, text)
}

func newCredential(a types.AuthConfig, path string) Credential {
	about := fmt.Sprintf("user %q (%s)", a.Username, path)
	if a.Username == "" || a.Username == "<token>" {
		about = fmt.Sprintf("a token (%s)", path)
	}
	return Credential{About: about, Auth: authn.AuthConfig{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}}
}

// Authenticator presents the credential, or nothing if there is none.
func (c Credential) Authenticator() authn.Authenticator {
	if c.Auth == (authn.AuthConfig{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(c.Auth)
}

// Scrub removes the credential from a text.
func (c Credential) Scrub(text string) string {
	secrets := []string{c.Auth.Password, c.Auth.IdentityToken, c.Auth.RegistryToken}
	if c.Auth.Password != "" {
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(c.Auth.Username+":"+c.Auth.Password)))
	}
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "…")
		}
	}
	return text
}
