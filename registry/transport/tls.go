package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"layered.build/builder/registry/errdef"
)

// certDirs are where docker and podman keep authorities and client certificates
// for a registry, in folders named after its host[:port].
var certDirs = [...]string{"/etc/docker/certs.d", "/etc/containers/certs.d"}

// tlsConfig adds *.crt as authorities and *.cert with *.key as client
// certificates, as docker does.
func tlsConfig(host string, dirs []string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, dir := range dirs {
		certs, err := filepath.Glob(filepath.Join(dir, host, "*.c*rt"))
		if err != nil {
			return nil, fmt.Errorf("read certificates for %s: %w", host, err)
		}
		for _, path := range certs {
			if err := addCert(conf, path); err != nil {
				return nil, fmt.Errorf("certificate for %s: %w", host, err)
			}
		}
	}
	return conf, nil
}

func addCert(conf *tls.Config, path string) error {
	base, client := strings.CutSuffix(path, ".cert")
	if client {
		pair, err := tls.LoadX509KeyPair(path, base+".key")
		if err != nil {
			return err
		}
		conf.Certificates = append(conf.Certificates, pair)
		return nil
	}
	if !strings.HasSuffix(path, ".crt") {
		return nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if conf.RootCAs == nil {
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
	}
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: %w: no PEM certificate", path, errdef.ErrInvalid)
	}
	return nil
}
