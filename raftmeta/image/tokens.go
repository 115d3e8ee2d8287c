package image

import (
	"crypto/hmac"
	"crypto/sha512"
	"slices"
	"time"
)

// Token is a delegation token (KIP-48): whoever has it can log in as its owner until it expires. It is never changed in place.
type Token struct {
	ID               string
	Owner, Requester string // principals, as Type:name
	Renewers         []string
	// Times are in milliseconds since 1970. A token that is renewed expires no later than at Limit.
	Issued, Expires, Limit int64
}

// Renews reports whether a principal may renew and end the token: its owner, and its renewers.
func (t *Token) Renews(principal string) bool {
	return principal == t.Owner || slices.Contains(t.Renewers, principal)
}

// Shows reports whether a principal may see the token without a right to it: who may renew it, and who asked for it.
func (t *Token) Shows(principal string) bool { return principal == t.Requester || t.Renews(principal) }

// Token finds a token.
func (m *Image) Token(id string) (*Token, bool) { return m.tokens.Get(id) }

// Tokens calls each with all tokens in the order of their ids, until it returns false.
func (m *Image) Tokens(each func(*Token) bool) {
	m.tokens.Scan(func(_ string, t *Token) bool { return each(t) })
}

// TokenCount is how many tokens there are.
func (m *Image) TokenCount() int { return m.tokens.Len() }

func (m *Image) setToken(r *DelegationTokenRecord) {
	if r.Remove {
		m.tokens.Delete(r.Id)
		return
	}
	m.tokens.Set(r.Id, &Token{ID: r.Id, Owner: r.Owner, Requester: r.Requester, Renewers: r.Renewers, Issued: r.Issued, Expires: r.Expires, Limit: r.ExpiresAtMost})
}

// Record is the record of a token.
func (t *Token) Record() *Record {
	return &Record{Kind: &Record_DelegationToken{&DelegationTokenRecord{
		Id: t.ID, Owner: t.Owner, Requester: t.Requester, Renewers: t.Renewers, Issued: t.Issued, Expires: t.Expires, ExpiresAtMost: t.Limit,
	}}}
}

// RemoveToken is the record of a token's end.
func RemoveToken(id string) *Record {
	return &Record{Kind: &Record_DelegationToken{&DelegationTokenRecord{Id: id, Remove: true}}}
}

// Expired reports whether nobody can use the token any more.
func (t *Token) Expired(now time.Time) bool {
	return t.Expires < now.UnixMilli() || t.Limit < now.UnixMilli()
}

// HMAC is what proves a token: who knows it may use the token. It follows from the id and the secret of all nodes (delegation.token.secret.key).
func (t *Token) HMAC(secret string) []byte {
	m := hmac.New(sha512.New, []byte(secret))
	m.Write([]byte(t.ID))
	return m.Sum(nil)
}
