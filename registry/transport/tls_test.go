package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layered.build/builder/registry/errdef"
)

func writeFileT(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestCertsDir(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "https://")
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	writeFileT(t, filepath.Join(dir, host, "ca.crt"), string(ca), 0o644)
	var warned []string
	warn := func(text string) { warned = append(warned, text) }
	other := filepath.Join(dir, host, "other.crt")
	writeFileT(t, filepath.Join(dir, host, "a.crt"), "", 0o644)
	writeFileT(t, other, string(srv.Certificate().Raw), 0o644) // the DER form
	writeFileT(t, filepath.Join(dir, host, "client.cert"), string(ca), 0o644)
	conf, err := Certs{Folders: []string{t.TempDir(), "/dev/null", dir}}.tlsConfig(host, warn)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	resp, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for i, want := range []string{"certificates: open /dev/null/" + host + ": not a directory", "a.crt: it holds no certificate in the PEM form", "client.key: no such file", other} {
		if len(warned) != 4 || !strings.Contains(warned[i], want) || !strings.HasSuffix(warned[i], ": passed over") {
			t.Errorf("warned %q, want %q", warned, want)
		}
	}
	all := t.TempDir()
	writeFileT(t, filepath.Join(all, "ca.crt"), string(ca), 0o644)
	if conf, err := (Certs{Dir: all}).tlsConfig("any.example", warn); err != nil || conf.RootCAs == nil {
		t.Errorf("a folder for all hosts: %+v, %v", conf, err)
	}
	writeFileT(t, filepath.Join(all, "other.crt"), "no certificate", 0o644)
	if _, err := (Certs{Dir: all}).tlsConfig("any.example", warn); !errors.Is(err, errdef.ErrInvalid) || !strings.Contains(err.Error(), "other.crt") {
		t.Errorf("what cannot be used: %v", err)
	}
	if _, err := (Certs{Dir: filepath.Join(all, "none")}).tlsConfig("any.example", warn); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// A client's certificate is presented.
func TestClientCertificate(t *testing.T) {
	cert, key := newCertificate(t)
	dir := t.TempDir()
	writeFileT(t, filepath.Join(dir, "client.cert"), cert, 0o644)
	writeFileT(t, filepath.Join(dir, "client.key"), key, 0o600)
	presented := ""
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		presented = r.TLS.PeerCertificates[0].Subject.CommonName
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.StartTLS()
	defer srv.Close()
	conf, err := Certs{Dir: dir}.tlsConfig("any.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	conf.InsecureSkipVerify = true
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	resp, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if presented != "me" {
		t.Errorf("presented %q", presented)
	}
}

// newCertificate returns a certificate and its key in the PEM form.
func newCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "me"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder}))
}
