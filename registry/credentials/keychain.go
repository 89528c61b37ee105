package credentials

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"layered.build/builder/registry/config"
)

// Keychain finds credentials where docker and podman keep them: $DOCKER_AUTH_CONFIG,
// docker's config.json with its credential helpers, then podman's auth.json. It reads, and
// runs, nothing before it is asked, and each of them once.
type Keychain struct {
	docker string
	podman []string
	warn   func(string)
	files  func() []*config.Docker // in order; docker's are the first ones

	mu      sync.Mutex
	answers map[string]*answer // guarded by mu; of helpers
}

var _ Source = (*Keychain)(nil)

// New looks in dir, else in $DOCKER_CONFIG, else in ~/.docker; then where podman looks
// (containers-auth.json(5)). What is wrong with a file is told to warn, unless that is nil:
// the file, or an entry of it, does not count then.
func New(dir string, warn func(string)) *Keychain {
	if dir == "" {
		dir = config.DockerFolder()
	}
	if warn == nil {
		warn = func(string) {}
	}
	k := &Keychain{warn: warn, answers: map[string]*answer{}}
	k.files = sync.OnceValue(k.read)
	if dir != "" {
		k.docker = filepath.Join(dir, "config.json")
	}
	if f := os.Getenv("REGISTRY_AUTH_FILE"); f != "" {
		k.podman = append(k.podman, f)
	}
	if run := config.RunFolder(); run != "" {
		k.podman = append(k.podman, filepath.Join(run, "containers", "auth.json"))
	}
	if user := config.UserFolder(); user != "" {
		k.podman = append(k.podman, filepath.Join(user, "containers", "auth.json"))
	}
	return k
}

// authEnv is docker's variable with the content of a config.json.
const authEnv = "DOCKER_AUTH_CONFIG"

func (k *Keychain) read() []*config.Docker {
	files := []*config.Docker{config.ParseDocker(authEnv, []byte(os.Getenv(authEnv))), {}}
	if k.docker != "" {
		files[1] = config.ReadDocker(k.docker)
	}
	for _, path := range k.podman {
		files = append(files, config.ReadDocker(path))
	}
	for _, f := range files {
		for _, p := range f.Problems {
			k.warn(p)
		}
	}
	return files
}

// Get returns the credentials for a repository of a host[:port]. A credential helper that
// fails, or an entry that cannot be read, leaves the request anonymous, as docker does, and
// is told in the credential's description. The error is the cause of ctx.
func (k *Keychain) Get(ctx context.Context, host, repo string) (Credential, error) {
	about := "none"
	for i, f := range k.files() {
		auth, err := k.find(ctx, f, host, repo, i > 1)
		if ctx.Err() != nil {
			return Credential{}, context.Cause(ctx)
		}
		if err != nil {
			about += "; " + err.Error()
		} else if auth != (config.Auth{}) {
			return newCredential(auth, f.Path), nil
		}
	}
	return Credential{About: about}, nil
}

// find looks in one file. Podman's files also have keys with a path.
func (k *Keychain) find(ctx context.Context, f *config.Docker, host, repo string, podman bool) (config.Auth, error) {
	if podman {
		for key := host + "/" + repo; key != host && strings.Contains(key, "/"); key = key[:strings.LastIndex(key, "/")] {
			if auth, ok := f.Auths[key]; ok {
				return auth, nil
			}
		}
	}
	keys := []string{host}
	if host == name.DefaultRegistry {
		keys = hubKeys()
		if podman {
			keys = []string{"docker.io", authn.DefaultAuthKey}
		}
	}
	for i, key := range keys {
		auth := entryOf(f, key, podman)
		if helper, own := f.CredHelpers[key]; own || i == 0 && f.CredsStore != "" {
			if !own {
				helper = f.CredsStore
			}
			if helper != "" {
				got, err := k.help(ctx, helper, key)
				if err != nil {
					return config.Auth{}, fmt.Errorf("%s: %w", f.Path, err)
				}
				got.RegistryToken = auth.RegistryToken
				auth = got
			}
		}
		if auth != (config.Auth{}) {
			return auth, nil
		}
		if why := f.Broken[key]; why != "" {
			return config.Auth{}, errors.New(why)
		}
	}
	return config.Auth{}, nil
}

// entryOf returns the entry for a registry, which may have been written as an address. A
// key with a path is in podman's files that of repositories.
func entryOf(f *config.Docker, key string, podman bool) config.Auth {
	if auth, ok := f.Auths[key]; ok {
		return auth
	}
	for _, have := range slices.Sorted(maps.Keys(f.Auths)) {
		if isAddressOf(have, key, podman) {
			return f.Auths[have]
		}
	}
	return config.Auth{}
}

// isAddressOf reports whether the key of an entry is an address of a registry.
func isAddressOf(have, registry string, podman bool) bool {
	scheme, rest, isURL := strings.Cut(have, "://")
	if !isURL {
		rest = scheme
	}
	host, _, hasPath := strings.Cut(rest, "/")
	return host == registry && (isURL || !hasPath || !podman)
}

// hubKeys are the names of Docker Hub, of which docker writes the first.
func hubKeys() []string { return []string{authn.DefaultAuthKey, "docker.io", name.DefaultRegistry} }

func newCredential(a config.Auth, path string) Credential {
	about := fmt.Sprintf("user %q (%s)", a.Username, path)
	if a.Username == "" || a.Username == tokenUser {
		about = fmt.Sprintf("a token (%s)", path)
	}
	return Credential{About: about, Auth: authn.AuthConfig{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}}
}
