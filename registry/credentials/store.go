package credentials

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"

	"layered.build/builder/registry/config"
	"layered.build/builder/snapshot/files"
)

// File is docker's config.json, in which logins are stored, or the helpers are named that
// store them. All else that is in it stays as it is.
type File string

// DockerFile is the file of this user.
func DockerFile() (File, error) {
	dir := config.DockerFolder()
	if dir == "" {
		return "", errors.New("there is no folder for a login: HOME or DOCKER_CONFIG must name one")
	}
	return File(filepath.Join(dir, "config.json")), nil
}

// Put stores a login under the name that docker has for a registry. It returns the
// credential helper that has it, "" if it is in the file itself, without encryption.
func (f File) Put(ctx context.Context, registry, user, password string) (helper string, err error) {
	entry := map[string]string{}
	if helper = f.helper(registry); helper != "" {
		login := &credentials.Credentials{ServerURL: registry, Username: user, Secret: password}
		if err := client.Store(program(ctx, helper), login); err != nil {
			return helper, &HelperError{Helper: helper, reason: helperReason(err)}
		}
	} else {
		entry["auth"] = base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	}
	raw, err := json.Marshal(entry)
	if err != nil {
		return helper, err
	}
	return helper, f.edit(func(auths map[string]json.RawMessage) { auths[registry] = raw })
}

// ErrNoLogin says that there is no login for a registry.
var ErrNoLogin = errors.New("not logged in")

// Remove forgets a login. It returns the helper that had it. If neither the file nor a
// helper has one, nothing is written and the error is ErrNoLogin.
func (f File) Remove(ctx context.Context, registry string) (helper string, err error) {
	helper = f.helper(registry)
	_, auths, err := f.read()
	if err != nil {
		return helper, err
	}
	names := []string{registry}
	if slices.Contains(hubKeys(), registry) {
		names = hubKeys()
	}
	isOf := func(key string, _ json.RawMessage) bool {
		return slices.ContainsFunc(names, func(n string) bool { return key == n || isAddressOf(key, n, false) })
	}
	before := len(auths)
	maps.DeleteFunc(auths, isOf)
	found := len(auths) < before
	if helper != "" {
		has, err := erase(program(ctx, helper), registry)
		if err != nil {
			return helper, &HelperError{Helper: helper, reason: helperReason(err)}
		}
		if !found && !has {
			return helper, ErrNoLogin
		}
	}
	switch {
	case found:
		return helper, f.edit(func(auths map[string]json.RawMessage) { maps.DeleteFunc(auths, isOf) })
	case helper == "":
		return "", ErrNoLogin
	}
	return helper, nil
}

// erase makes a helper forget a login, and reports whether it had one.
func erase(helper client.ProgramFunc, registry string) (bool, error) {
	if _, err := client.Get(helper, registry); credentials.IsErrCredentialsNotFound(err) {
		return false, nil
	}
	err := client.Erase(helper, registry)
	if err != nil && strings.Contains(err.Error(), credentials.NewErrCredentialsNotFound().Error()) {
		return false, nil
	}
	return err == nil, err
}

// helper is the one that has a registry's login.
func (f File) helper(registry string) string {
	d := config.ReadDocker(string(f))
	if own, ok := d.CredHelpers[registry]; ok {
		return own
	}
	return d.CredsStore
}

// read returns what is in the file, and the logins among it; a file that there is not is
// empty.
func (f File) read() (all, auths map[string]json.RawMessage, err error) {
	all, auths = map[string]json.RawMessage{}, map[string]json.RawMessage{}
	raw, err := os.ReadFile(string(f))
	if err == nil && len(raw) > 0 {
		err = json.Unmarshal(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")), &all)
	}
	if err == nil && len(all["auths"]) > 0 {
		err = json.Unmarshal(all["auths"], &auths)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read %s: %w", f, err)
	}
	return all, auths, nil
}

// edit changes the logins of the file.
func (f File) edit(change func(auths map[string]json.RawMessage)) error {
	all, auths, err := f.read()
	if err != nil {
		return err
	}
	change(auths)
	if all["auths"], err = json.Marshal(auths); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(string(f)), 0o700); err != nil {
		return err
	}
	return files.WriteBytes(string(f), 0o600, raw)
}
