package reapi

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"layered.build/builder/cache/shared"
	"layered.build/builder/parser/mistake"
)

// headersVariable holds headers, so that credentials need not be on a command line.
const headersVariable = "BUILDER_REAPI_HEADERS"

// options say where a place is.
type options struct {
	scheme, host string
	instance     string
	header       map[string]string
	secrets      secrets
	tls          *tls.Config
}

// String names the place.
func (o *options) String() string {
	name := o.scheme + "://" + o.host
	if o.instance != "" {
		name += "/" + o.instance
	}
	return name
}

// reserved are parts that the names of instances may not have: they have a meaning in the
// names of resources.
var reserved = []string{"blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"}

func takeOptions(a *shared.Attrs, getenv func(string) string) (*options, error) {
	text, err := a.Need("endpoint")
	if err != nil {
		return nil, err
	}
	o := &options{instance: a.Take("instance"), header: map[string]string{}}
	if err := o.takeEndpoint(text); err != nil {
		return nil, err
	}
	for _, s := range strings.Split(o.instance, "/") {
		if slices.Contains(reserved, s) || s == "" && o.instance != "" {
			return nil, mistake.New("type=reapi: instance=%s: the API does not allow the part %q", o.instance, s)
		}
	}
	list := a.List("header")
	if len(list) == 0 {
		list = strings.FieldsFunc(getenv(headersVariable), func(r rune) bool { return r == ';' || r == '\n' })
	}
	if err := o.takeHeader(list); err != nil {
		return nil, err
	}
	return o, o.takeTLS(a)
}

// takeEndpoint reads grpc://HOST:PORT. Nothing of what is wrong is repeated, since it may
// hold a password.
func (o *options) takeEndpoint(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return mistake.New("type=reapi: the endpoint is not grpc://HOST:PORT or grpcs://HOST:PORT")
	case u.User != nil:
		return mistake.New("type=reapi: the endpoint holds a user or password").WithHint("give header=authorization=…, or $%s", headersVariable)
	case u.Scheme == "http" || u.Scheme == "https":
		return mistake.New("type=reapi: the endpoint begins with %s://, the Remote Execution API is spoken over gRPC", u.Scheme).
			WithHint("give the server's gRPC address as grpc://HOST:PORT, or grpcs://HOST:PORT with TLS")
	case u.Scheme != "grpc" && u.Scheme != "grpcs":
		return mistake.New("type=reapi: the endpoint begins with %s://; want grpc:// or grpcs://", u.Scheme)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return mistake.New("type=reapi: the endpoint is more than grpc://HOST:PORT").WithHint("the name of an instance is instance=NAME")
	}
	o.scheme, o.host = u.Scheme, u.Host
	if u.Port() == "" {
		port := map[string]string{"grpc": "80", "grpcs": "443"}[u.Scheme]
		o.host = net.JoinHostPort(u.Hostname(), port)
	}
	return nil
}

// takeHeader reads KEY=VALUE. Values are not repeated in errors.
func (o *options) takeHeader(list []string) error {
	for _, h := range list {
		key, value, ok := strings.Cut(h, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		if !ok || key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			return mistake.New("type=reapi: header: one is not KEY=VALUE, with ; between them")
		}
		if strings.HasPrefix(key, "grpc-") || slices.Contains([]string{"te", "content-type", "user-agent", "host", "connection"}, key) {
			return mistake.New("type=reapi: header: %s is gRPC's own", key)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return mistake.New("type=reapi: header: the value of %s has characters that a header cannot have", key)
		}
		o.header[key] = value
		o.secrets.add(value)
	}
	return nil
}

func (o *options) takeTLS(a *shared.Attrs) error {
	ca, cert, key := a.Take("ca"), a.Take("cert"), a.Take("key")
	insecure, err := a.Bool("insecure", false)
	if err != nil {
		return err
	}
	if o.scheme == "grpc" {
		if ca != "" || cert != "" || key != "" || insecure {
			return mistake.New("type=reapi: ca, cert, key and insecure are for grpcs://")
		}
		return nil
	}
	o.tls = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // as asked for
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return mistake.New("type=reapi: ca: %w", err)
		}
		o.tls.RootCAs = x509.NewCertPool()
		if !o.tls.RootCAs.AppendCertsFromPEM(pem) {
			return mistake.New("type=reapi: ca=%s: it holds no certificate in the PEM form", ca)
		}
	}
	if (cert == "") != (key == "") {
		return mistake.New("type=reapi: cert and key go together")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return mistake.New("type=reapi: cert and key: %w", err)
		}
		o.tls.Certificates = []tls.Certificate{pair}
	}
	return nil
}
