package azblob

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/fixtures"
	"layered.build/builder/fixtures/peer"
)

// TestPeer does with Microsoft's server what TestConformance does with our own.
func TestPeer(t *testing.T) {
	fixtures.NeedTime(t)
	fixtures.NeedProgram(t, "node", "npm")
	s, err := peer.StartAzure(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	n := 0
	run := func(name, attrs string) {
		t.Run(name, func(t *testing.T) {
			sharedtest.Run(t, func(t *testing.T) sharedtest.Opener {
				n++
				prefix := ",prefix=of test+" + strconv.Itoa(n)
				return func() shared.Backend { return open(t, Settings{}, attrs+prefix, nil) }
			})
		})
	}
	// The first makes the container.
	run("Key", "account_url="+s.URL+",secret_access_key="+s.Key+",container=peer")
	run("Signature", "account_url="+s.URL+"?"+accountSignature(t, s.Account, s.Key)+",container=peer")

	wrong := open(t, Settings{}, "account_url="+s.URL+",secret_access_key=AAAA,container=peer", nil)
	if _, _, err := wrong.Index(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "AAAA") {
		t.Errorf("another key: %v", err)
	}
}

// accountSignature makes a shared access signature of an account ("Create an account SAS").
func accountSignature(t *testing.T, account, key string) string {
	t.Helper()
	ends := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	const permissions, services, kinds, signed = "rwdlac", "b", "sco", "2021-08-06"
	k := sharedKey{account: account, key: decode(t, key)}
	text := strings.Join([]string{account, permissions, services, kinds, "", ends, "", "https,http", signed, "", ""}, "\n")
	return signatureQuery(map[string]string{
		"sv": signed, "ss": services, "srt": kinds, "sp": permissions, "se": ends, "spr": "https,http", "sig": k.mac(text),
	})
}
