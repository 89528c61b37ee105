package transport

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	conf, err := tlsConfig(host, []string{t.TempDir(), dir})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	resp, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	writeFileT(t, filepath.Join(dir, host, "other.crt"), "no certificate", 0o644)
	if _, err := tlsConfig(host, []string{dir}); !errors.Is(err, errdef.ErrInvalid) || !strings.Contains(err.Error(), "other.crt") {
		t.Errorf("%v", err)
	}
	writeFileT(t, filepath.Join(dir, "b", "client.cert"), string(ca), 0o644)
	if _, err := tlsConfig("b", []string{dir}); err == nil || !strings.Contains(err.Error(), "client.key") {
		t.Errorf("client certificate without key: %v", err)
	}
}
