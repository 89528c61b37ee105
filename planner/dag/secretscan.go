package dag

// SecretScan says what happens to a step that leaves secrets in its layer or log, where
// logs hide them in any case.
type SecretScan string

// The choices. With SecretScanDefault a step fails for values that look like secrets, and
// warns of others; with SecretScanError it fails for all, with SecretScanWarn for none, and
// with SecretScanOff nothing is said either.
const (
	SecretScanDefault SecretScan = ""
	SecretScanError   SecretScan = "error"
	SecretScanWarn    SecretScan = "warn"
	SecretScanOff     SecretScan = "off"
)

// ParseSecretScan reads a choice; false if it is none.
func ParseSecretScan(s string) (SecretScan, bool) {
	switch c := SecretScan(s); c {
	case SecretScanError, SecretScanWarn, SecretScanOff:
		return c, true
	}
	return SecretScanDefault, false
}
