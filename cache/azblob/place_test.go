package azblob

import (
	"bytes"
	"encoding/base64"
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
	"layered.build/builder/cache/shared/sharedtest"
)

// quick has short pauses.
var quick = Settings{
	Retry: object.Retry{Wait: time.Millisecond, MaxWait: 20 * time.Millisecond},
	Part:  1 << 20,
}

func open(t *testing.T, s Settings, attrs string, env map[string]string) *object.Place {
	t.Helper()
	// Shared access signatures may have commas, so that the value is quoted.
	var fields []string
	for f := range strings.SplitSeq(strings.ReplaceAll(attrs, "https,http", "https%2Chttp"), ",") {
		fields = append(fields, `"`+f+`"`)
	}
	a, err := shared.ParseAttrs("type=azblob," + strings.Join(fields, ","))
	if err != nil {
		t.Fatal(err)
	}
	a.Kind()
	p, err := s.New(a, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Left(); err != nil {
		t.Fatal(err)
	}
	return p
}

func decode(t *testing.T, key string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func signatureQuery(pairs map[string]string) string { return object.Query(pairs) }

func withKey(s *httptest.Server) string {
	return "account_url=" + s.URL + "/" + testAccount + ",secret_access_key=" + testKey
}

func TestConformance(t *testing.T) {
	for name, c := range map[string]struct {
		fake *fake
		more string
	}{
		"Usual":    {&fake{}, ""},
		"Prefixes": {&fake{}, ",container=other,prefix=a b/c,blobs_prefix=ü+%,manifests_prefix=,name=x/y;z"},
		"Skewed":   {&fake{skew: 25 * time.Hour}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sharedtest.Run(t, func(t *testing.T) sharedtest.Opener {
				s := newFake(t, c.fake)
				return func() shared.Backend { return open(t, Settings{}, withKey(s)+c.more, nil) }
			})
		})
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		attrs    string
		env      map[string]string
		name     string // of the place
		account  string
		key, sas string
		layout   object.Layout
	}{
		{"account_url=https://acc.blob.core.windows.net,secret_access_key=a2V5", nil,
			"https://acc.blob.core.windows.net/buildkit-cache/", "acc", "a2V5", "", object.Layout{Blobs: "blobs/", Index: "manifests/buildkit", Indexes: "manifests/"}},
		{"account_name=acc,prefix=p,name=n,container=c", map[string]string{"AZURE_STORAGE_KEY": "a2V5"},
			"https://acc.blob.core.windows.net/c/p", "acc", "a2V5", "", object.Layout{Blobs: "p/blobs/", Index: "p/manifests/n", Indexes: "p/manifests/"}},
		{"account_url=https://u:p@acc.blob.core.windows.net/?sv=1&sig=abcd,blobs_prefix=", nil,
			"https://acc.blob.core.windows.net/buildkit-cache/", "acc", "", "sv=1&sig=abcd", object.Layout{Blobs: "", Index: "manifests/buildkit", Indexes: "manifests/"}},
		{"container=c", map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5==;EndpointSuffix=core.test"},
			"https://acc.blob.core.test/c/", "acc", "a2V5==", "", object.Layout{Blobs: "blobs/", Index: "manifests/buildkit", Indexes: "manifests/"}},
		{"container=c", map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "BlobEndpoint=http://127.0.0.1:9/dev;SharedAccessSignature=?sv=1&sig=abcd"},
			"http://127.0.0.1:9/dev/c/", "dev", "", "sv=1&sig=abcd", object.Layout{Blobs: "blobs/", Index: "manifests/buildkit", Indexes: "manifests/"}},
		{"name=n", map[string]string{"BUILDKIT_AZURE_STORAGE_ACCOUNT_URL": "https://h.test", "BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME": "acc",
			"BUILDKIT_AZURE_STORAGE_CONTAINER": "c", "BUILDKIT_AZURE_STORAGE_PREFIX": "p", "AZURE_STORAGE_SAS_TOKEN": "?sig=abcd"},
			"https://h.test/c/p", "acc", "", "sig=abcd", object.Layout{Blobs: "p/blobs/", Index: "p/manifests/n", Indexes: "p/manifests/"}},
	} {
		a, err := shared.ParseAttrs("type=azblob," + c.attrs)
		if err != nil {
			t.Fatal(err)
		}
		getenv := func(k string) string { return c.env[k] }
		o, err := readOptions(a, getenv)
		if err != nil {
			t.Errorf("%s: %v", c.attrs, err)
			continue
		}
		if o.name != c.account || o.key != c.key || o.sas != c.sas || o.layouts[0] != c.layout {
			t.Errorf("%s: got %+v", c.attrs, o)
		}
		if o.key != "" && o.key != "a2V5" {
			continue
		}
		if p, err := New(a, getenv); err != nil || p.String() != c.name {
			t.Errorf("%s: got %v, %v, want %s", c.attrs, p, err, c.name)
		}
	}
}

func TestMistakes(t *testing.T) {
	for attrs, want := range map[string]string{
		"container=c":                                  "account_url is missing",
		"account_url=acc.blob.core.windows.net":        "account_url is not a URL",
		"account_url=http://127.0.0.1:9":               "account_name is missing",
		"account_name=a,secret_access_key=se-cret-key": "is not base64",
		"account_url=https://a.test?sv=se-cret-key":    "has no sig=",
	} {
		a, err := shared.ParseAttrs("type=azblob," + attrs)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(a, func(string) string { return "" })
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "se-cret-key") {
			t.Errorf("%s: got %v, want %q", attrs, err, want)
		}
	}
}

// Of a content that is not what was promised no blob is made.
func TestPromises(t *testing.T) {
	s := newFake(t, &fake{})
	p := open(t, quick, withKey(s), nil)
	data := bytes.Repeat([]byte("0123456789"), 300_000)
	promised := sharedtest.NewBlob(data)
	for name, wrong := range map[string][]byte{
		"longer": append(bytes.Clone(data), '.'), "shorter": data[1:], "changed": append([]byte("."), data[1:]...),
	} {
		if err := p.Store(t.Context(), promised, sharedtest.Content(wrong)); err == nil {
			t.Errorf("%s: stored", name)
		}
		if missing, err := p.Missing(t.Context(), []shared.Blob{promised}); err != nil || len(missing) != 1 {
			t.Errorf("%s: missing %v, %v", name, missing, err)
		}
	}
}

// Of two that write a blob at once the later one finds its blocks gone, and the blob there.
func TestSameBlob(t *testing.T) {
	f := &fake{}
	data := bytes.Repeat([]byte("0123456789"), 300_000)
	b := sharedtest.NewBlob(data)
	s := newFake(t, f)
	f.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("comp") != "blocklist" {
			return false
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.blobs[strings.TrimPrefix(r.URL.Path, "/"+testAccount+"/")] = data
		refuse(w, r, 400, "InvalidBlockList")
		return true
	}
	if err := open(t, quick, withKey(s), nil).Store(t.Context(), b, sharedtest.Content(data)); err != nil {
		t.Error(err)
	}
}

// Blocks that BuildKit has left are in nobody's way.
func TestLeftBlocks(t *testing.T) {
	f := &fake{}
	s := newFake(t, f)
	data := bytes.Repeat([]byte("0123456789"), 300_000)
	b := sharedtest.NewBlob(data)
	left := base64.StdEncoding.EncodeToString(make([]byte, 64)) // the SDK's UploadStream
	f.containers["buildkit-cache"] = true
	f.blocks["buildkit-cache/blobs/"+b.Digest.String()] = map[string][]byte{left: []byte("left")}
	p := open(t, quick, withKey(s), nil)
	if err := p.Store(t.Context(), b, sharedtest.Content(data)); err != nil {
		t.Fatal(err)
	}
	if missing, err := p.Missing(t.Context(), []shared.Blob{b}); err != nil || len(missing) != 0 {
		t.Errorf("missing %v, %v", missing, err)
	}
}

func TestTokens(t *testing.T) {
	f := &fake{bearer: "token-of-the-workload"}
	s := newFake(t, f)
	file := filepath.Join(t.TempDir(), "assertion")
	if err := os.WriteFile(file, []byte("the-assertion\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	asked := 0
	entra := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch {
		case r.FormValue("client_assertion") == "the-assertion", r.FormValue("client_secret") == "the-secret",
			r.Header.Get("Metadata") == "true" && r.FormValue("client_id") == "client", r.Header.Get("X-Identity-Header") == "the-header":
			fmt.Fprintf(w, `{"access_token":%q,"expires_in":"3599"}`, f.bearer)
		default:
			w.WriteHeader(401)
			fmt.Fprint(w, `{"error":"invalid_client","error_description":"the-assertion, the-secret"}`)
		}
	}))
	t.Cleanup(entra.Close)
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"workload": {map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "client", "AZURE_AUTHORITY_HOST": entra.URL + "/", "AZURE_FEDERATED_TOKEN_FILE": file}, ""},
		"secret":   {map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "client", "AZURE_AUTHORITY_HOST": entra.URL, "AZURE_CLIENT_SECRET": "the-secret"}, ""},
		"machine":  {map[string]string{"AZURE_CLIENT_ID": "client", "AZURE_POD_IDENTITY_AUTHORITY_HOST": entra.URL}, ""},
		"service":  {map[string]string{"IDENTITY_ENDPOINT": entra.URL, "IDENTITY_HEADER": "the-header"}, ""},
		"refused":  {map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "client", "AZURE_AUTHORITY_HOST": entra.URL, "AZURE_CLIENT_SECRET": "wrong-secret"}, "invalid_client"},
		"nobody":   {map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1"}, "there are no credentials"},
		"no such":  {map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "client", "AZURE_FEDERATED_TOKEN_FILE": file + "x"}, "no such file"},
	} {
		asked = 0
		p := open(t, quick, "account_url="+s.URL+"/"+testAccount, c.env)
		for range 2 {
			_, _, err := p.Index(t.Context(), "")
			switch {
			case c.want == "" && !errors.Is(err, fs.ErrNotExist):
				t.Errorf("%s: got %v", name, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%s: got %v, want %q", name, err, c.want)
			case c.want != "" && (strings.Contains(err.Error(), "-secret") || strings.Contains(err.Error(), "the-assertion")):
				t.Errorf("%s: a credential is in %v", name, err)
			}
		}
		if asked > 1 {
			t.Errorf("%s: asked %d times", name, asked)
		}
	}
}
