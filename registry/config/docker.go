package config

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// Docker is what docker's config.json says as far as it concerns registries, or podman's
// auth.json, which is the same with less. What is wrong in it is told and left out: the
// rest counts, and what needs no login needs none of it.
type Docker struct {
	// Path is the file.
	Path string
	// Auths are logins by registry, as the file names it.
	Auths map[string]Auth
	// Broken says of entries of Auths that could not be read why.
	Broken map[string]string
	// CredsStore is the credential helper (docker-credential-NAME) for all registries,
	// CredHelpers those for some; "" there means none.
	CredsStore  string
	CredHelpers map[string]string
	// Problems are what the user should know, with path and line; those of Broken are
	// among them.
	Problems []string

	proxies map[string]proxies
}

// proxies are what processes in builds and containers of one engine are told.
type proxies struct{ HTTPProxy, HTTPSProxy, NoProxy, FTPProxy, AllProxy string }

// Proxies returns the variables (HTTP_PROXY, http_proxy, …) that builds and containers get
// where the engine is at an address ($DOCKER_HOST; "": docker's usual one): its own, or the
// default ones.
func (d *Docker) Proxies(engine string) map[string]string {
	if engine == "" {
		engine = "unix:///var/run/docker.sock"
	}
	p, ok := d.proxies[engine]
	if !ok {
		p = d.proxies["default"]
	}
	out := map[string]string{}
	for name, value := range map[string]string{
		"HTTP_PROXY": p.HTTPProxy, "HTTPS_PROXY": p.HTTPSProxy, "NO_PROXY": p.NoProxy, "FTP_PROXY": p.FTPProxy, "ALL_PROXY": p.AllProxy,
	} {
		if value != "" {
			out[name], out[strings.ToLower(name)] = value, value
		}
	}
	return out
}

// Auth is a login.
type Auth struct {
	Username, Password string
	// IdentityToken is exchanged for tokens, RegistryToken is one.
	IdentityToken, RegistryToken string
}

// ReadDocker reads a file. One that does not exist, or cannot be reached, counts as empty.
func ReadDocker(path string) *Docker {
	raw, err := os.ReadFile(path)
	d := ParseDocker(path, raw)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.Problems = append(d.Problems, unreachable(path, err))
	}
	return d
}

// ParseDocker reads what a file would say; path is for messages.
func ParseDocker(path string, raw []byte) *Docker {
	d := &Docker{Path: path, Auths: map[string]Auth{}, Broken: map[string]string{}}
	d.decode(raw)
	return d
}

// byteOrderMark is what some editors put before UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

func (d *Docker) decode(raw []byte) {
	if rest, ok := bytes.CutPrefix(raw, byteOrderMark); ok {
		raw = rest
		d.complain(raw, 0, "begins with a byte order mark, with which docker does not read it")
	}
	var file struct {
		Auths, CredsStore, CredHelpers, Proxies json.RawMessage
	}
	err := json.NewDecoder(bytes.NewReader(raw)).Decode(&file)
	var syntax *json.SyntaxError
	switch {
	case err == io.EOF: // an empty file
		return
	case errors.As(err, &syntax):
		d.complain(raw, syntax.Offset, "%v: the file is not used", syntax)
		return
	case errors.Is(err, io.ErrUnexpectedEOF):
		d.complain(raw, int64(len(raw)), "ends too early: the file is not used")
		return
	case err != nil: // the error could quote the file
		d.complain(raw, int64(len(raw)), "no JSON object: the file is not used")
		return
	}
	d.field(raw, "credsStore", file.CredsStore, &d.CredsStore)
	d.field(raw, "credHelpers", file.CredHelpers, &d.CredHelpers)
	d.field(raw, "proxies", file.Proxies, &d.proxies)
	var auths map[string]json.RawMessage
	d.field(raw, "auths", file.Auths, &auths)
	for _, key := range slices.Sorted(maps.Keys(auths)) {
		auth, reason := decodeAuth(auths[key])
		if reason == "" {
			d.Auths[key] = auth
			continue
		}
		d.complain(raw, offsetOf(raw, "auths", key), "the login for %s: %s: it is not used", key, reason)
		d.Broken[key] = d.Problems[len(d.Problems)-1]
	}
}

// field decodes a setting, unless it is absent.
func (d *Docker) field(raw []byte, name string, value json.RawMessage, to any) {
	if len(value) > 0 && json.Unmarshal(value, to) != nil {
		d.complain(raw, offsetOf(raw, name), "%s is not what it should be: it is not used", name)
	}
}

// complain tells a problem at an offset.
func (d *Docker) complain(raw []byte, offset int64, format string, args ...any) {
	line := 1 + bytes.Count(raw[:min(offset, int64(len(raw)))], []byte("\n"))
	d.Problems = append(d.Problems, fmt.Sprintf("%s:%d: %s", d.Path, line, fmt.Sprintf(format, args...)))
}

// decodeAuth reads an entry. The reason why it cannot holds nothing of it.
func decodeAuth(raw json.RawMessage) (auth Auth, reason string) {
	var entry struct {
		Auth, Username, Password, IdentityToken, RegistryToken string
	}
	if json.Unmarshal(raw, &entry) != nil {
		return auth, "no object of strings"
	}
	auth = Auth{Username: entry.Username, Password: entry.Password, IdentityToken: entry.IdentityToken, RegistryToken: entry.RegistryToken}
	if entry.Auth == "" {
		return auth, ""
	}
	plain, err := base64.StdEncoding.DecodeString(entry.Auth)
	if err != nil {
		return auth, `"auth" is not base64`
	}
	user, password, ok := strings.Cut(string(plain), ":")
	if !ok || user == "" {
		return auth, `"auth" is not the base64 of USER:PASSWORD`
	}
	auth.Username, auth.Password = user, strings.Trim(password, "\x00")
	return auth, ""
}

// offsetOf returns where in a JSON document the key at a path of keys ends, or how long the
// document is.
func offsetOf(raw []byte, path ...string) int64 {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return int64(len(raw))
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			break
		}
		var skipped json.RawMessage
		switch {
		case key != path[0]:
			err = dec.Decode(&skipped)
		case len(path) == 1:
			return dec.InputOffset()
		default:
			path = path[1:]
			_, err = dec.Token() // the brace of the object
		}
		if err != nil {
			break
		}
	}
	return int64(len(raw))
}
