package engines

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layered.build/builder/registry"
)

// keyPair returns a certificate of a client and its key, as PEM.
func keyPair(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// TestDaemonTLS reads an image from a docker that wants to know who asks, and that has
// to prove who it is.
func TestDaemonTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/images/name%2Fapp:1/get" {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"message":"no such image: `+r.URL.Path+`"}`)
			return
		}
		io.WriteString(w, "archive for "+r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)

	dir := t.TempDir()
	put := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := Daemon{Host: "tcp://" + srv.Listener.Addr().String(), CertDir: dir}
	fails := func(what string, is error, text string) {
		t.Helper()
		r, err := SaveDaemon(t.Context(), d, "name/app:1")
		if err == nil {
			r.Close()
		}
		if err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: error %v, want %v, %q", what, err, is, text)
		}
	}
	fails("no certificate of the authority", nil, "certificate")
	put("ca.pem", []byte("nonsense"))
	fails("nonsense", registry.ErrInvalid, "ca.pem")
	put("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	fails("no certificate of the client", nil, "certificate required")
	cert, key := keyPair(t, "ann")
	_, other := keyPair(t, "bob")
	put("cert.pem", cert)
	put("key.pem", other)
	fails("another's key", nil, "private key does not match")
	put("key.pem", key)
	r, err := SaveDaemon(t.Context(), d, "name/app:1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != "archive for ann" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := SaveDaemon(t.Context(), d, "other"); err == nil || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("an image that is not there: %v", err)
	}
}
