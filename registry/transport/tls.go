package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"layered.build/builder/registry/errdef"
)

// Certs are where the certificates for registries are: *.crt are those of authorities
// beside the system's ($SSL_CERT_FILE, $SSL_CERT_DIR), *.cert with *.key the client's, as
// docker and podman have them.
type Certs struct {
	// Folders have a folder for each host[:port], like docker's certs.d. What cannot be
	// used there is passed over, and told.
	Folders []string
	// Dir, unless "", has certificates for all hosts. What cannot be used there is an
	// error.
	Dir string
}

// certificates are those for one host.
type certificates struct {
	conf *tls.Config
	warn func(string)
}

// tlsConfig reads the certificates for a host. Errors match errdef.ErrInvalid.
func (c Certs) tlsConfig(host string, warn func(string)) (*tls.Config, error) {
	cs := &certificates{conf: &tls.Config{MinVersion: tls.VersionTLS12}, warn: warn}
	for _, dir := range c.Folders {
		if err := cs.folder(filepath.Join(dir, host)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			warn(fmt.Sprintf("certificates: %v: passed over", err))
		}
	}
	if c.Dir == "" {
		return cs.conf, nil
	}
	cs.warn = nil
	if err := cs.folder(c.Dir); err != nil {
		return nil, fmt.Errorf("certificates: %w: %w", errdef.ErrInvalid, err)
	}
	return cs.conf, nil
}

// folder adds what a folder has. The error is that of reading the folder, or, if nobody is
// to be warned, that of the first file that cannot be used.
func (cs *certificates) folder(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		path := filepath.Join(dir, n.Name())
		switch filepath.Ext(path) {
		case ".crt":
			err = cs.authority(path)
		case ".cert":
			err = cs.client(path)
		default:
			continue
		}
		switch {
		case err == nil:
		case cs.warn == nil:
			return err
		default:
			cs.warn(fmt.Sprintf("certificate %v: passed over", err))
		}
	}
	return nil
}

func (cs *certificates) client(path string) error {
	pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	cs.conf.Certificates = append(cs.conf.Certificates, pair)
	return nil
}

func (cs *certificates) authority(path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if cs.conf.RootCAs == nil {
		if cs.conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			cs.conf.RootCAs = x509.NewCertPool()
		}
	}
	if !cs.conf.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: it holds no certificate in the PEM form", path)
	}
	return nil
}
