package quota

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"kraft/wire/locks"
)

// Config is over what time a Manager measures.
type Config struct {
	Requests   Windows // quota.window.*
	Controller Windows // controller.quota.window.*
	Log        zerolog.Logger
}

// Manager knows what clients have taken of late. Any goroutine may use it. A nil Manager limits nobody.
type Manager struct {
	config Config
	limits atomic.Pointer[Limits]

	mu        locks.Mutex // guards the rest
	takers    map[taker]*taken
	swept     time.Time
	lines     *rate.Limiter
	throttled [kinds]Throttled
}

// Throttled is how often a broker has throttled for one kind of quota, and for how long in all.
type Throttled struct {
	Times int64
	Time  time.Duration
}

// taker is a client as far as one kind of quota is concerned.
type taker struct {
	kind Kind
	client
}

// taken is what a taker has taken: a rate, or of Mutations tokens.
type taken struct {
	rate   Rate
	tokens tokens
	limit  float64   // when something was last taken
	last   time.Time // when that was
	told   time.Time // when the log last said that it is throttled
}

const (
	maxTakers    = 100_000     // above which those that are new are counted together, for each user
	maxIdle      = time.Hour   // after which a taker is forgotten, whatever it owes
	tellEvery    = time.Minute // at most one line about a taker in this time
	linesAtOnce  = 10          // and at most so many lines a second about all
	maxID        = 128         // bytes of a client id that are kept as they are
	shownOfNames = 100         // bytes of a name in a line of the log
)

// short bounds the length of a client id, which may be 32 KiB, and keeps different ones apart.
func short(id string) string {
	if len(id) <= maxID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return id[:maxID-2*len(sum)] + hex.EncodeToString(sum[:])
}

// NewManager returns a Manager without quotas.
func NewManager(c Config) *Manager {
	m := &Manager{config: c, takers: map[taker]*taken{}, lines: rate.NewLimiter(linesAtOnce, linesAtOnce)}
	m.limits.Store(new(Limits))
	return m
}

// SetLimits replaces all quotas. What clients have taken already counts for the new ones.
func (m *Manager) SetLimits(l *Limits) { m.limits.Store(l) }

func (m *Manager) windows(k Kind) Windows {
	if k == Mutations {
		return m.config.Controller
	}
	return m.config.Requests
}

// find returns what a client has taken, and how much it may; ok is false if it may take anything. If ok, mu is held when it returns.
func (m *Manager) find(k Kind, user, id string, now time.Time) (t *taken, who client, limit float64, ok bool) {
	if m == nil {
		return nil, who, 0, false
	}
	if limit, who, ok = m.limits.Load().find(k, user, id); !ok {
		return nil, who, 0, false
	}
	who.id = short(who.id)
	m.mu.Lock()
	if now.Sub(m.swept) >= m.config.Requests.all() {
		m.sweep(now)
	}
	t = m.takers[taker{k, who}]
	if t == nil && len(m.takers) >= maxTakers {
		who.id = ""
		t = m.takers[taker{k, who}]
	}
	if t == nil {
		t = new(taken)
		m.takers[taker{k, who}] = t
	}
	t.last, t.limit = now, limit
	return t, who, limit, true
}

// sweep forgets whose past does not count any more: nothing has been taken over all windows, or all tokens are back.
func (m *Manager) sweep(now time.Time) {
	m.swept = now
	maps.DeleteFunc(m.takers, func(who taker, t *taken) bool {
		idle := now.Sub(t.last)
		if idle >= maxIdle {
			return true
		}
		if now.Sub(t.told) < tellEvery {
			return false
		}
		w := m.windows(who.kind)
		if who.kind != Mutations {
			return idle >= w.all()
		}
		t.tokens.refill(w, t.limit, now)
		return t.tokens.left >= t.limit*w.all().Seconds()
	})
}

// Take counts what a client took, and returns for how long it is to be throttled: 0 while it is within its quota.
func (m *Manager) Take(k Kind, user, id string, amount float64, now time.Time) time.Duration {
	t, who, limit, ok := m.find(k, user, id, now)
	if !ok {
		return 0
	}
	defer m.mu.Unlock()
	w := m.windows(k)
	var throttle time.Duration
	if k == Mutations {
		t.tokens.refill(w, limit, now)
		t.tokens.left -= amount
		throttle = t.tokens.throttle(w, limit, now)
	} else {
		t.rate.Take(w, amount, now)
		throttle = t.rate.Throttle(w, limit, now)
	}
	if k == Request {
		throttle = min(throttle, w.Each)
	}
	m.note(k, who, t, limit, throttle, now)
	return throttle
}

// Count counts what a client took, without throttling it now.
func (m *Manager) Count(k Kind, user, id string, amount float64, now time.Time) {
	if t, _, _, ok := m.find(k, user, id, now); ok {
		t.rate.Take(m.windows(k), amount, now)
		m.mu.Unlock()
	}
}

// Spend takes mutations if the client has not overdrawn its quota before. Otherwise it takes nothing, and returns after what time it may again.
func (m *Manager) Spend(user, id string, amount float64, now time.Time) time.Duration {
	t, who, limit, ok := m.find(Mutations, user, id, now)
	if !ok {
		return 0
	}
	defer m.mu.Unlock()
	throttle := t.tokens.throttle(m.config.Controller, limit, now)
	if throttle == 0 {
		t.tokens.left -= amount
	}
	m.note(Mutations, who, t, limit, throttle, now)
	return throttle
}

// note counts that a client is throttled, and tells it now and then. mu is held.
func (m *Manager) note(k Kind, who client, t *taken, limit float64, throttle time.Duration, now time.Time) {
	if throttle == 0 {
		return
	}
	m.throttled[k].Times++
	m.throttled[k].Time += throttle
	if now.Sub(t.told) >= tellEvery && m.lines.AllowN(now, 1) {
		t.told = now
		e := m.config.Log.Info().Str("quota", Keys[k]).Float64("limit", limit)
		for field, name := range map[string]string{"user": who.user, "client": who.id} {
			if name != "" {
				e.Str(field, name[:min(len(name), shownOfNames)])
			}
		}
		e.Dur("throttle", throttle).Msg("throttled a client")
	}
}

// Most is how much of an amount a client may take at once: in one answer to Fetch, say.
func (m *Manager) Most(k Kind, user, id string, amount int) int {
	if m == nil {
		return amount
	}
	limit, _, ok := m.limits.Load().find(k, user, id)
	if !ok {
		return amount
	}
	w := m.windows(k)
	if most := limit * float64(w.Count-1) * w.Each.Seconds(); most < float64(amount) {
		return int(most)
	}
	return amount
}

// Limits reports whether a client has a quota of a kind.
func (m *Manager) Limits(k Kind, user, id string) bool {
	if m == nil {
		return false
	}
	_, _, ok := m.limits.Load().find(k, user, id)
	return ok
}

// Throttled is what a Manager has throttled so far, by kind.
func (m *Manager) Throttled() [kinds]Throttled {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.throttled
}
