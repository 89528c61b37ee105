package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
	"layered.build/builder/parser/mistake"
)

// providers is a server of everything that gives credentials; the token names who gave them.
func providers(t *testing.T) *httptest.Server {
	t.Helper()
	at := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	document := func(who string) string {
		return fmt.Sprintf(`{"Code":"Success","AccessKeyId":"ID","SecretAccessKey":"SECRET","Token":%q,"Expiration":%q}`, who, at)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "" {
			w.WriteHeader(400)
		}
		fmt.Fprint(w, "imds")
	})
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/{role...}", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "imds":
			w.WriteHeader(401)
		case r.PathValue("role") == "":
			fmt.Fprint(w, "a-role\n")
		default:
			fmt.Fprint(w, document("machine "+r.PathValue("role")))
		}
	})
	mux.HandleFunc("GET /container", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, document("container "+r.Header.Get("Authorization")))
	})
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		action, who := r.FormValue("Action"), "web "+r.FormValue("WebIdentityToken")
		if action == "AssumeRole" {
			id, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="), "/")
			who = "assumed by " + id + " " + r.FormValue("ExternalId")
		}
		if r.FormValue("RoleArn") == "denied" {
			w.WriteHeader(403)
			fmt.Fprintf(w, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>%s</Message></Error></ErrorResponse>", r.FormValue("WebIdentityToken"))
			return
		}
		fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials><AccessKeyId>ID</AccessKeyId><SecretAccessKey>SECRET</SecretAccessKey><SessionToken>%[2]s</SessionToken><Expiration>%[3]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
			action, who, at)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

const (
	configFile = `# of the AWS tools
[default]
region = eu-default-1
[profile plain]
region=eu-plain-1
s3 =
  addressing_style = path
[profile web]
role_arn = role
web_identity_token_file = %[1]s
[profile role]
role_arn = role
source_profile = plain
external_id = ext
[profile loop]
role_arn = role
source_profile = loop2
[profile loop2]
role_arn = role
source_profile = loop
[profile program]
credential_process = echo '{"Version":1,"AccessKeyId":"ID","SecretAccessKey":"SECRET","SessionToken":"program"}'
[profile broken]
credential_process = echo secret-output
[profile sso]
sso_session = x
[sso-session x]
sso_start_url = https://x.test
`
	credentialsFile = `[plain]
aws_access_key_id = PLAIN
aws_secret_access_key = SECRET
aws_session_token = of the file
`
)

func TestSources(t *testing.T) {
	s := providers(t)
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	for name, text := range map[string]string{
		".aws/config": fmt.Sprintf(configFile, token), ".aws/credentials": credentialsFile, "token": "jwt\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, ".aws"), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, attrs string
		env         map[string]string
		want, about string // the token, or the error
	}{
		{"options", "access_key_id=a,secret_access_key=b,session_token=given", map[string]string{"AWS_PROFILE": "plain"}, "given", "the options"},
		{"variables", "", map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "var", "AWS_PROFILE": "plain"}, "var", "$AWS_ACCESS_KEY_ID"},
		{"web identity", "", map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": "r"}, "web jwt", "role r"},
		{"profile", "", map[string]string{"AWS_PROFILE": "plain"}, "of the file", "profile plain"},
		{"profile with a token", "", map[string]string{"AWS_PROFILE": "web"}, "web jwt", "role role"},
		{"profile with a role", "", map[string]string{"AWS_PROFILE": "role"}, "assumed by PLAIN ext", "role role by profile plain"},
		{"profile with a program", "", map[string]string{"AWS_PROFILE": "program"}, "program", "profile program (credential_process)"},
		{"container", "", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": s.URL + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token}, "container jwt", "the container's role"},
		{"machine", "", map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": s.URL}, "machine a-role", "the machine's role"},
		{"loop", "", map[string]string{"AWS_PROFILE": "loop"}, "stands on itself", ""},
		{"no profile", "", map[string]string{"AWS_PROFILE": "nowhere"}, `no profile "nowhere"`, ""},
		{"SSO", "", map[string]string{"AWS_PROFILE": "sso"}, "not supported", ""},
		{"program with other output", "", map[string]string{"AWS_PROFILE": "broken"}, "its output is not what AWS describes", ""},
		{"denied", "", map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": "denied"}, "AccessDenied", ""},
		{"none", "", map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}, "there are no credentials", ""},
		{"nobody answers", "", map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}, "there are no credentials", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			getenv := func(k string) string {
				switch k {
				case "HOME":
					return dir
				case "AWS_ENDPOINT_URL_STS":
					return s.URL
				}
				return c.env[k]
			}
			a, err := shared.ParseAttrs(strings.TrimSuffix("type=s3,bucket=b,endpoint_url=http://h,"+c.attrs, ","))
			if err != nil {
				t.Fatal(err)
			}
			o, err := readOptions(a, getenv)
			var keys Keys
			if err == nil {
				keys, err = newRing(o.source, &object.Secrets{}).held.Get(t.Context())
			}
			if c.about == "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "jwt") || strings.Contains(err.Error(), "secret-output") {
					t.Errorf("got %v, want %q", err, c.want)
				}
				return
			}
			if err != nil || keys.Token != c.want || o.source.About() != c.about {
				t.Errorf("got %q of %q, %v, want %q of %q", keys.Token, o.source.About(), err, c.want, c.about)
			}
		})
	}
}

func TestRegionOfProfile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	if err := os.WriteFile(path, []byte(configFile), 0o600); err != nil {
		t.Fatal(err)
	}
	for profile, want := range map[string]string{"": "eu-default-1", "plain": "eu-plain-1"} {
		getenv := func(k string) string {
			return map[string]string{"AWS_CONFIG_FILE": path, "AWS_PROFILE": profile, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}[k]
		}
		a, err := shared.ParseAttrs("type=s3,bucket=b")
		if err != nil {
			t.Fatal(err)
		}
		if o, err := readOptions(a, getenv); err != nil || o.region != want {
			t.Errorf("profile %q: region %q, %v", profile, o.region, err)
		}
	}
}

// Credentials that ended, or that the service refuses, are asked for again; those that do
// not end are not, and who gave none is left alone for a while.
func TestRenewal(t *testing.T) {
	f := &fake{}
	s := newFake(t, f)
	asked := 0
	p, keys := openRing(t, s.URL, func() (Keys, error) {
		asked++
		secret := "an-old-secret"
		if asked > 1 {
			secret = testSecret
		}
		valid := time.Hour
		if asked == 2 {
			valid = time.Minute
		}
		return Keys{ID: testID, Secret: secret, Expires: time.Now().Add(valid)}, nil
	})
	f.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n > 1 {
			return false
		}
		refuse(w, r, 400, "ExpiredToken")
		return true
	}
	if _, _, err := p.Index(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	// What ends soon is asked for again, what does not is not.
	for range 2 {
		if _, err := keys.held.Get(t.Context()); err != nil || asked != 3 {
			t.Errorf("%v, asked %d times", err, asked)
		}
	}
	failed := 0
	p, _ = openRing(t, s.URL, func() (Keys, error) { failed++; return Keys{}, mistake.New("no credentials") })
	for range 3 {
		if _, _, err := p.Index(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "no credentials") {
			t.Errorf("got %v", err)
		}
	}
	if failed != 1 {
		t.Errorf("asked %d times", failed)
	}
}
