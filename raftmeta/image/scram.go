package image

// ScramMechanism is a SCRAM mechanism by Kafka's number (ScramMechanism).
type ScramMechanism int8

// The mechanisms of KIP-554.
const (
	ScramSHA256 ScramMechanism = 1 + iota
	ScramSHA512
)

// ScramCredential is by what a user logs in by SCRAM (KIP-554). It is never changed.
type ScramCredential struct {
	User                       string
	Mechanism                  ScramMechanism
	Salt, StoredKey, ServerKey []byte
	Iterations                 int32
}

// scramKey puts a user's credentials in the order of their mechanisms.
func scramKey(user string, m ScramMechanism) string { return user + "\x00" + string(rune(m)) }

// Scram finds a user's credential for a mechanism.
func (m *Image) Scram(user string, mechanism ScramMechanism) (*ScramCredential, bool) {
	return m.scram.Get(scramKey(user, mechanism))
}

// ScramCredentials calls each with all credentials in the order of users and mechanisms, from a user on, until it returns false.
func (m *Image) ScramCredentials(from string, each func(*ScramCredential) bool) {
	m.scram.Ascend(scramKey(from, 0), func(_ string, c *ScramCredential) bool { return each(c) })
}

func (m *Image) setScram(r *ScramCredentialRecord) {
	c := &ScramCredential{User: r.User, Mechanism: ScramMechanism(r.Mechanism), Salt: r.Salt, StoredKey: r.StoredKey, ServerKey: r.ServerKey, Iterations: r.Iterations}
	if r.Remove {
		m.scram.Delete(scramKey(c.User, c.Mechanism))
	} else {
		m.scram.Set(scramKey(c.User, c.Mechanism), c)
	}
}

// SetScram is the record of a credential.
func SetScram(c *ScramCredential) *Record { return c.record(false) }

// RemoveScram is the record of a credential's end.
func RemoveScram(c *ScramCredential) *Record {
	return (&ScramCredential{User: c.User, Mechanism: c.Mechanism}).record(true)
}

func (c *ScramCredential) record(remove bool) *Record {
	return &Record{Kind: &Record_ScramCredential{&ScramCredentialRecord{
		User: c.User, Mechanism: int32(c.Mechanism), Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey, Iterations: c.Iterations, Remove: remove,
	}}}
}
