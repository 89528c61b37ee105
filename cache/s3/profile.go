package s3

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"layered.build/builder/parser/mistake"
)

// profiles are the files of the AWS tools: ~/.aws/credentials and ~/.aws/config, read when
// they are first wanted.
type profiles struct {
	getenv func(string) string
	read   bool
	err    error
	all    map[string]map[string]string // by profile
}

func newProfiles(getenv func(string) string) *profiles { return &profiles{getenv: getenv} }

// name is the profile that is used.
func (p *profiles) name() string {
	return cmp.Or(p.getenv("AWS_PROFILE"), p.getenv("AWS_DEFAULT_PROFILE"), "default")
}

// value is one of the profile's settings.
func (p *profiles) value(key string) string {
	if p.load() != nil {
		return "" // source tells
	}
	return p.all[p.name()][key]
}

func (p *profiles) load() error {
	if p.read {
		return p.err
	}
	p.read, p.all = true, map[string]map[string]string{}
	home := p.getenv("HOME")
	config := cmp.Or(p.getenv("AWS_CONFIG_FILE"), filepath.Join(home, ".aws/config"))
	keys := cmp.Or(p.getenv("AWS_SHARED_CREDENTIALS_FILE"), filepath.Join(home, ".aws/credentials"))
	for _, path := range []string{config, keys} { // what is in both is the latter's
		if err := p.loadFile(path, path == config); err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.err = mistake.New("read %s: %w", path, err)
		}
	}
	return p.err
}

func (p *profiles) loadFile(path string, config bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var section map[string]string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		text := strings.TrimSpace(line)
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case text[0] == '[':
			section = p.section(strings.Trim(text, "[] \t"), config)
		case line[0] == ' ' || line[0] == '\t': // of a setting that is itself a list
		default:
			if key, value, ok := strings.Cut(text, "="); ok && section != nil {
				value, _, _ = strings.Cut(value, " #")
				section[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
			}
		}
	}
	return lines.Err()
}

// section is the map for a section's settings, nil if it is no profile.
func (p *profiles) section(title string, config bool) map[string]string {
	if config && title != "default" {
		var ok bool
		if title, ok = strings.CutPrefix(title, "profile "); !ok {
			return nil
		}
		title = strings.TrimSpace(title)
	}
	if p.all[title] == nil {
		p.all[title] = map[string]string{}
	}
	return p.all[title]
}

// source gives the credentials of the profile, nil if it has none. One that was asked for by
// name and is not there is a mistake.
func (p *profiles) source(sts tokenService) (source, error) {
	name := p.name()
	if err := p.load(); err != nil {
		return nil, err
	}
	if p.all[name] == nil && name != "default" {
		return nil, mistake.New("type=s3: there is no profile %q in ~/.aws/config or ~/.aws/credentials", name)
	}
	return p.sourceOf(name, sts, 0)
}

// maxProfiles is how many profiles may stand on one another.
const maxProfiles = 8

func (p *profiles) sourceOf(name string, sts tokenService, depth int) (source, error) {
	s := p.all[name]
	about := "profile " + name
	role := s["role_arn"]
	switch {
	case depth > maxProfiles:
		return nil, mistake.New("type=s3: profile %s stands on itself", name)
	case role != "" && s["web_identity_token_file"] != "":
		return webIdentity{sts: sts, file: s["web_identity_token_file"], role: role, session: s["role_session_name"]}, nil
	case role != "" && s["source_profile"] != "" && (s["source_profile"] != name || s["aws_access_key_id"] == ""):
		below, err := p.sourceOf(s["source_profile"], sts, depth+1)
		if err != nil {
			return nil, err
		}
		if below == nil {
			return nil, mistake.New("type=s3: profile %s, of which profile %s takes its credentials, has none", s["source_profile"], name)
		}
		return assumed{sts: sts, below: below, role: role, session: s["role_session_name"], external: s["external_id"]}, nil
	case s["aws_access_key_id"] != "":
		keys := Keys{ID: s["aws_access_key_id"], Secret: s["aws_secret_access_key"], Token: s["aws_session_token"]}
		if role != "" && s["source_profile"] == name {
			return assumed{sts: sts, below: fixed{about, keys}, role: role, session: s["role_session_name"], external: s["external_id"]}, nil
		}
		return fixed{about, keys}, nil
	case s["credential_process"] != "":
		return process{about: about, command: s["credential_process"]}, nil
	case s["sso_session"] != "" || s["sso_start_url"] != "":
		return nil, mistake.New("type=s3: %s logs in by SSO, which is not supported", about).
			WithHint("set the variables that `aws configure export-credentials --profile %s --format env` prints", name)
	}
	return nil, nil
}

// process is a program that prints credentials.
type process struct{ about, command string }

// About implements source.
func (p process) About() string { return p.about + " (credential_process)" }

// Keys implements source.
func (p process) Keys(ctx context.Context) (Keys, error) {
	out, err := exec.CommandContext(ctx, "sh", "-c", p.command).Output()
	if err != nil {
		return Keys{}, fmt.Errorf("credential_process: %w", err)
	}
	var doc struct {
		AccessKeyId, SecretAccessKey, SessionToken string //nolint:revive // AWS's names
		Expiration                                 time.Time
	}
	if err := json.Unmarshal(out, &doc); err != nil || doc.AccessKeyId == "" {
		return Keys{}, errors.New("credential_process: its output is not what AWS describes")
	}
	return Keys{ID: doc.AccessKeyId, Secret: doc.SecretAccessKey, Token: doc.SessionToken, Expires: doc.Expiration}, nil
}
