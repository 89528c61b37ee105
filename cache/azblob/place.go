package azblob

import (
	"cmp"
	"net"
	"net/url"
	"path"
	"strings"

	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
	"layered.build/builder/parser/mistake"
)

// Settings are what a user has no option for. The zero value is the usual one.
type Settings struct {
	// Timeouts bound how long a silent service is waited for.
	Timeouts object.Timeouts
	// Retry says how often requests are made again.
	Retry object.Retry
	// Part is the size of the blocks in which blobs are sent (0: 8 MiB).
	Part int
}

// New makes the place that the options describe; nothing is sent yet. Getenv finds the
// environment's variables. Errors are mistakes of the user's.
func New(a *shared.Attrs, getenv func(string) string) (*object.Place, error) {
	return Settings{}.New(a, getenv)
}

// New is New with settings.
func (s Settings) New(a *shared.Attrs, getenv func(string) string) (*object.Place, error) {
	o, err := readOptions(a, getenv)
	if err != nil {
		return nil, err
	}
	secrets := &object.Secrets{}
	login, err := o.login(getenv, secrets)
	if err != nil {
		return nil, err
	}
	at := *o.account
	at.Path += "/" + o.container
	b := &bucket{at: &at, client: &object.Client{
		HTTP:    object.NewHTTP(object.NewTransport(s.Timeouts, nil)),
		Service: &service{login: login},
		Retry:   s.Retry,
		Clock:   &object.Clock{},
		Secrets: secrets,
	}}
	return object.NewPlace(b, object.Options{
		Name: at.Scheme + "://" + at.Host + at.Path + "/" + o.prefix, Layouts: o.layouts, Part: s.Part, Retry: s.Retry,
	}), nil
}

// options are the attributes of a cache of this type.
type options struct {
	account           *url.URL // without a query
	name              string   // of the account
	container, prefix string
	key, sas          string
	layouts           []object.Layout
}

func readOptions(a *shared.Attrs, getenv func(string) string) (options, error) {
	conn := connection(getenv("AZURE_STORAGE_CONNECTION_STRING"))
	o := options{
		name:      cmp.Or(a.Take("account_name"), getenv("BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME"), conn["accountname"], getenv("AZURE_STORAGE_ACCOUNT")),
		container: cmp.Or(a.Take("container"), getenv("BUILDKIT_AZURE_STORAGE_CONTAINER"), "buildkit-cache"),
		prefix:    cmp.Or(a.Take("prefix"), getenv("BUILDKIT_AZURE_STORAGE_PREFIX")),
		key:       a.Take("secret_access_key"),
	}
	address := cmp.Or(a.Take("account_url"), getenv("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL"), conn["blobendpoint"])
	if address == "" && o.name != "" {
		address = cmp.Or(conn["defaultendpointsprotocol"], "https") + "://" + o.name + ".blob." + cmp.Or(conn["endpointsuffix"], "core.windows.net")
	}
	if address == "" {
		return o, mistake.New("type=azblob: account_url is missing").
			WithHint("give account_url=https://ACCOUNT.blob.core.windows.net, or account_name=ACCOUNT, or set $AZURE_STORAGE_CONNECTION_STRING")
	}
	if err := o.readAddress(address); err != nil {
		return o, err
	}
	if o.key == "" && o.sas == "" {
		o.key = cmp.Or(conn["accountkey"], getenv("AZURE_STORAGE_KEY"))
		o.sas = strings.TrimPrefix(cmp.Or(conn["sharedaccesssignature"], getenv("AZURE_STORAGE_SAS_TOKEN")), "?")
	}
	blobs, manifests := "blobs", "manifests"
	if a.Has("blobs_prefix") {
		blobs = a.Take("blobs_prefix")
	}
	if a.Has("manifests_prefix") {
		manifests = a.Take("manifests_prefix")
	}
	names := a.List("name")
	if len(names) == 0 {
		names = []string{"buildkit"}
	}
	before := path.Join(o.prefix, blobs)
	if before != "" {
		before += "/"
	}
	indexes := path.Join(o.prefix, manifests)
	if indexes != "" {
		indexes += "/"
	}
	for _, name := range names {
		o.layouts = append(o.layouts, object.Layout{Blobs: before, Index: path.Join(indexes, name), Indexes: indexes})
	}
	return o, nil
}

// readAddress takes the URL of the account, and a shared access signature in it.
func (o *options) readAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return mistake.New("type=azblob: account_url is not a URL such as https://ACCOUNT.blob.core.windows.net")
	}
	o.sas = u.RawQuery
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	u.Path = strings.TrimSuffix(u.Path, "/")
	o.account = u
	if o.name != "" {
		return nil
	}
	// The account is the first part of the host; where that is an address, of the path.
	if host := u.Hostname(); net.ParseIP(host) != nil || host == "localhost" {
		o.name, _, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	} else {
		o.name, _, _ = strings.Cut(host, ".")
	}
	if o.name == "" {
		return mistake.New("type=azblob: account_name is missing")
	}
	return nil
}

// connection reads a connection string; keys are in lower case.
func connection(text string) map[string]string {
	m := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		if key, value, ok := strings.Cut(part, "="); ok {
			m[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		}
	}
	return m
}
