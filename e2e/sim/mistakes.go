package sim

// Mistake is a change of one place in kraft's sources that the simulation has to find.
type Mistake struct {
	Name string
	File string
	// Old is in the file once; New takes its place and asks planted.On(Name).
	Old, New string
	// Seed is tried first. If it does not find the mistake, one of the seeds from 1 to Seeds must.
	Seed, Seeds int
}

// Mistakes are those that show that the net has no holes where they are.
var Mistakes = []Mistake{
	{
		Name:  "acknowledged before the ISR has it",
		File:  "replication/followers.go",
		Old:   `if slices.Contains(l.isr, r) || p.undecided(l) && slices.Contains(p.proposed.isr, r) {`,
		New:   `if !planted.On("acknowledged before the ISR has it") && (slices.Contains(l.isr, r) || p.undecided(l) && slices.Contains(p.proposed.isr, r)) {`,
		Seeds: 500,
		Seed:  2,
	},
	{
		Name: "a refusal believed",
		File: "replication/followers.go",
		Old: `	switch {
	case errors.Is(err, kerr.InvalidUpdateVersion),`,
		New: `	if planted.On("a refusal believed") {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.proposed = proposed{}
		return nil
	}
	switch {
	case errors.Is(err, kerr.InvalidUpdateVersion),`,
		Seeds: 1500,
		Seed:  20,
	},
	{
		Name:  "ISR shrunk without the controller",
		File:  "replication/followers.go",
		Old:   `			end = min(end, f.end)`,
		New:   `			if !planted.On("ISR shrunk without the controller") || time.Since(f.fetched) < 300*time.Millisecond { end = min(end, f.end) }`,
		Seeds: 500,
		Seed:  6,
	},
	{
		Name:  "joins the ISR before it has everything",
		File:  "replication/followers.go",
		Old:   `offset < p.Log().HighWatermark() || offset < l.begun ||`,
		New:   `!planted.On("joins the ISR before it has everything") && (offset < p.Log().HighWatermark() || offset < l.begun) ||`,
		Seeds: 2000,
		Seed:  5,
	},
	{
		Name:  "min.insync.replicas not heeded",
		File:  "replication/followers.go",
		Old:   `if len(l.isr) < l.minInSync {`,
		New:   `if !planted.On("min.insync.replicas not heeded") && len(l.isr) < l.minInSync {`,
		Seeds: 2000,
		Seed:  204,
	},
	{
		Name:  "nothing cut off after a divergence",
		File:  "replication/followers.go",
		Old:   `return common, end, common >= 0 && (common < epoch || end < offset)`,
		New:   `return common, end, !planted.On("nothing cut off after a divergence") && common >= 0 && (common < epoch || end < offset)`,
		Seeds: 500,
		Seed:  5,
	},
	{
		Name:  "epochs without records kept after a divergence",
		File:  "storage/replicate.go",
		Old:   `		l.epochs.cut(l.start.Load(), offset)`,
		New:   `		if !planted.On("epochs without records kept after a divergence") { l.epochs.cut(l.start.Load(), offset) }`,
		Seeds: 2000,
		Seed:  38,
	},
	{
		Name:  "cut to the high watermark",
		File:  "replication/partition.go",
		Old:   `			p.following = &following{partition: p, leader: reg.Leader, epoch: reg.LeaderEpoch}`,
		New:   `			if planted.On("cut to the high watermark") { _, _ = p.Log().Truncate(p.Log().HighWatermark()) }; p.following = &following{partition: p, leader: reg.Leader, epoch: reg.LeaderEpoch}`,
		Seeds: 500,
		Seed:  5,
	},
	{
		Name:  "consumers read what is not committed",
		File:  "replication/fetch.go",
		Old:   `	upTo := out.HighWatermark`,
		New:   `	upTo := out.HighWatermark; if planted.On("consumers read what is not committed") { upTo = log.EndOffset() }`,
		Seeds: 500,
		Seed:  5,
	},
	{
		Name:  "end offset told before it is committed",
		File:  "replication/offsets.go",
		Old:   `	high := p.Log().HighWatermark()`,
		New:   `	high := p.Log().HighWatermark(); if planted.On("end offset told before it is committed") { high = p.Log().EndOffset() }`,
		Seeds: 2000,
		Seed:  43,
	},
	{
		Name:  "end offset told before the high watermark is back",
		File:  "replication/offsets.go",
		Old:   `	if high < l.begun && req.ReplicaID < 0 {`,
		New:   `	if !planted.On("end offset told before the high watermark is back") && high < l.begun && req.ReplicaID < 0 {`,
		Seeds: 500,
		Seed:  5,
	},
	{
		Name:  "anybody is elected",
		File:  "raftmeta/controller/elections.go",
		Old:   `	if b.mode == unclean || b.policy.Unclean(b.image, b.topic.Name) {`,
		New:   `	if planted.On("anybody is elected") || b.mode == unclean || b.policy.Unclean(b.image, b.topic.Name) {`,
		Seeds: 2000,
		Seed:  5,
	},
	{
		Name:  "an unclean stop taken for a clean one",
		File:  "raftmeta/controller/brokers.go",
		Old:   `	uncleanly := cleanEpoch != old.Epoch`,
		New:   `	uncleanly := cleanEpoch != old.Epoch && !planted.On("an unclean stop taken for a clean one")`,
		Seeds: 2000,
		Seed:  47,
	},
	{
		Name:  "another leader in the same epoch",
		File:  "raftmeta/image/image.go",
		Old:   `		p.LeaderEpoch++`,
		New:   `		if !planted.On("another leader in the same epoch") { p.LeaderEpoch++ }`,
		Seeds: 500,
		Seed:  1,
	},
	{
		Name:  "compaction keeps the older record of a key",
		File:  "storage/compact.go",
		Old:   `	case r.Offset < p.keys.get(r.Key):`,
		New:   `	case (r.Offset < p.keys.get(r.Key)) != planted.On("compaction keeps the older record of a key"):`,
		Seeds: 2000,
		Seed:  6,
	},
	{
		Name:  "no sync",
		File:  "storage/segment.go",
		Old:   `	if err := f.Sync(); err != nil {`,
		New:   `	if planted.On("no sync") { return nil }; if err := f.Sync(); err != nil {`,
		Seeds: 500,
		Seed:  1,
	},
	{
		Name:  "no sync on followers",
		File:  "replication/fetcher.go",
		Old:   `	if f.fetchers.manager.commits {`,
		New:   `	if f.fetchers.manager.commits && !planted.On("no sync on followers") {`,
		Seeds: 2000,
		Seed:  1,
	},
	{
		Name: "a new segment's name not synced",
		File: "storage/log.go",
		Old: `	if err == nil && !named {
		// A new`,
		New: `	if err == nil && !named && !planted.On("a new segment's name not synced") {
		// A new`,
		Seeds: 2000,
		Seed:  74,
	},
	{
		Name: "producers' state not rebuilt",
		File: "storage/recovery.go",
		Old: `	l.producers = p
	if err := l.recall`,
		New: `	l.producers = p; if planted.On("producers' state not rebuilt") { l.producers = newProducerStates(); return nil }
	if err := l.recall`,
		Seeds: 500,
		Seed:  8,
	},
	{
		Name:  "only a producer's last batch known after a start",
		File:  "storage/recovery.go",
		Old:   `	if !p.activeSince(`,
		New:   `	if planted.On("only a producer's last batch known after a start") || !p.activeSince(`,
		Seeds: 2000,
		Seed:  25,
	},
	{
		Name:  "repeated batches appended again",
		File:  "storage/producers.go",
		Old:   `		if e.batches[i].firstSeq == seq && e.batches[i].lastSeq == last {`,
		New:   `		if planted.On("repeated batches appended again") { return nil, nil }; if e.batches[i].firstSeq == seq && e.batches[i].lastSeq == last {`,
		Seeds: 500,
		Seed:  5,
	},
	{
		Name:  "a torn batch taken for whole",
		File:  "storage/segment.go",
		Old:   `		if err := b.Check(); err != nil {`,
		New:   `		if err := b.Check(); err != nil && !planted.On("a torn batch taken for whole") {`,
		Seeds: 2000,
		Seed:  10,
	},
	{
		Name:  "commits of offsets answered before they are replicated",
		File:  "groups/runtime/loop.go",
		Old:   `	high := l.log.HighWatermark()`,
		New:   `	high := l.log.HighWatermark(); if planted.On("commits of offsets answered before they are replicated") { high = 1 << 60 }`,
		Seeds: 500,
		Seed:  51,
	},
	{
		Name:  "a coordinator reads only what is committed",
		File:  "groups/log.go",
		Old:   `	offset, end := log.StartOffset(), log.EndOffset()`,
		New:   `	offset, end := log.StartOffset(), log.EndOffset(); if planted.On("a coordinator reads only what is committed") { end = log.HighWatermark() }`,
		Seeds: 2000,
		Seed:  5,
	},
	{
		Name: "a vote not saved",
		File: "raftmeta/quorum/store.go",
		Old: `		if hard != nil {
			if err := put(`,
		New: `		if hard != nil && !planted.On("a vote not saved") {
			if err := put(`,
		Seeds: 2000,
		Seed:  1,
	},
	{
		Name:  "metadata acknowledged before it is synced",
		File:  "raftmeta/quorum/store.go",
		Old:   `		for _, e := range entries {`,
		New:   `		if planted.On("metadata acknowledged before it is synced") { return nil }; for _, e := range entries {`,
		Seeds: 500,
		Seed:  1,
	},
	{
		Name:  "fetch session served after re-creation",
		File:  "replication/fetch.go",
		Old:   `	p, err := f.manager.find(f.version >= 13, w.topic, w.id, w.n)`,
		New:   `	p, err := f.manager.find(f.version >= 13, w.topic, w.id, w.n); if planted.On("fetch session served after re-creation") && f.version >= 13 { if err == nil { w.topic = p.topic } else if w.topic != "" { p, err = f.manager.find(false, w.topic, w.id, w.n) } }`,
		Seeds: 500,
		Seed:  2,
	},
	{
		Name:  "checkpoints of a deleted topic believed",
		File:  "storage/manager.go",
		Old:   `	if named {`,
		New:   `	if named && !planted.On("checkpoints of a deleted topic believed") {`,
		Seeds: 2000,
		Seed:  5,
	},
	{
		Name:  "a new leader takes its log's end for the high watermark",
		File:  "replication/partition.go",
		Old:   `		l.begun = p.Log().EndOffset()`,
		New:   `		l.begun = p.Log().EndOffset(); if planted.On("a new leader takes its log's end for the high watermark") { p.Log().SetHighWatermark(l.begun) }`,
		Seeds: 2000,
		Seed:  38,
	},
	{
		Name:  "a level finalized that a broker does not support",
		File:  "raftmeta/controller/features.go",
		Old:   `		if has, knows := b.Features[c.Name]; reason == "" {`,
		New:   `		if has, knows := b.Features[c.Name]; reason == "" && !planted.On("a level finalized that a broker does not support") {`,
		Seeds: 2000,
		Seed:  48,
	},
	{
		Name: "an older disk let in",
		File: "raftmeta/quorum/standing.go",
		Old: `h.Life == seen.Life || h.Insists {
		return nil`,
		New: `h.Life == seen.Life || h.Insists || planted.On("an older disk let in") {
		return nil`,
		Seeds: 500,
		Seed:  2,
	},
	{Name: "appends of an older leadership count as committed", Seed: 5, Seeds: 300, File: "replication/partition.go",
		Old: `case p.led != nil && p.led.first <= epoch && epoch <= p.led.last && offset <= p.led.high:`,
		New: `case p.led != nil && p.led.first <= epoch && epoch <= p.led.last && (offset <= p.led.high || planted.On("appends of an older leadership count as committed")):`},
	{Name: "lookup by time skips a batch", Seed: 1, Seeds: 300, File: "storage/read.go",
		Old: `			if timestamp >= ms && offset`,
		New: `			if !(planted.On("lookup by time skips a batch") && pos == 0) && timestamp >= ms && offset`},
	{Name: "an index read one entry too far", Seed: 1, Seeds: 300, File: "storage/index.go",
		Old: `	i := sort.Search(len(e), func(i int) bool { return int64(e[i].rel) > rel })`,
		New: `	i := sort.Search(len(e), func(i int) bool { return int64(e[i].rel) > rel }); if planted.On("an index read one entry too far") && i < len(e) { i++ }`},
	{Name: "a snapshot forgets settings", Seed: 3, Seeds: 300, File: "raftmeta/image/image.go",
		Old: `		for k, v := range c {
			out = append(out, SetConfig(int8(key[0]), key[1:], k, &v))`,
		New: `		for k, v := range c {
			if planted.On("a snapshot forgets settings") { continue }
			out = append(out, SetConfig(int8(key[0]), key[1:], k, &v))`},
	{Name: "a snapshot forgets producer ids", Seed: 9, Seeds: 300, File: "raftmeta/image/image.go",
		Old: `	if m.NextProducerID > 0 {`,
		New: `	if m.NextProducerID > 0 && !planted.On("a snapshot forgets producer ids") {`},
	{Name: "commits of an old generation accepted", Seed: 1, Seeds: 300, File: "groups/coordinator/offsets.go",
		Old: `	case generation != g.generation:`,
		New: `	case generation != g.generation && !planted.On("commits of an old generation accepted"):`},
	{Name: "commits during a rebalance accepted", Seed: 1, Seeds: 300, File: "groups/coordinator/offsets.go",
		Old: `	case g.state == CompletingRebalance:`,
		New: `	case g.state == CompletingRebalance && !planted.On("commits during a rebalance accepted"):`},
	{Name: "gaps of sequences accepted", Seed: 5, Seeds: 300, File: "storage/producers.go",
		Old: `	if seq != want {`,
		New: `	if seq != want && !planted.On("gaps of sequences accepted") {`},
	{Name: "a fenced broker stays in its ISRs", Seed: 11, Seeds: 1500, File: "raftmeta/controller/brokers.go",
		Old: `BrokerChangeRecord{Fenced: &yes})}, leaveAll(m, policy, id)...), nil`,
		New: `BrokerChangeRecord{Fenced: &yes})}, leaveAll(m, policy, map[bool]int32{false: id, true: -5}[planted.On("a fenced broker stays in its ISRs")])...), nil`},
	{Name: "eligible replicas kept when the ISR is large enough", Seed: 37, Seeds: 300, File: "raftmeta/controller/elections.go",
		Old: `	if len(isr) >= b.minISR() {
		return nil
	}`,
		New: `	if len(isr) >= b.minISR() && !planted.On("eligible replicas kept when the ISR is large enough") {
		return nil
	}`},
	{Name: "an uncleanly stopped replica stays eligible", Seed: 47, Seeds: 1500, File: "raftmeta/controller/elections.go",
		Old: `!(r == b.away && b.unclean) {`,
		New: `(!(r == b.away && b.unclean) || planted.On("an uncleanly stopped replica stays eligible")) {`},
	{Name: "DeleteRecords answered at once", Seed: 1, Seeds: 300, File: "replication/deleterecords.go",
		Old: `		if low >= offset {`,
		New: `		if low >= offset || planted.On("DeleteRecords answered at once") {`},
	{Name: "what was recovered is not committed", Seed: 9, Seeds: 300, File: "replication/manager.go",
		Old: `	if !m.commits || log.Durable() >= end {`,
		New: `	if !m.commits || log.Durable() >= end || planted.On("what was recovered is not committed") {`},
	{Name: "a denial is overruled", Seed: 26, Seeds: 300, File: "wire/acl/decide.go",
		Old: `				if !v.Allowed {
					return false
				}`,
		New: `				if !v.Allowed && !planted.On("a denial is overruled") {
					return false
				}`},
	{Name: "changes of producer ids not shown", Seed: 1, Seeds: 300, File: "raftmeta/image/delta.go",
		Old: `		d.Other = true`,
		New: `		d.Other = !planted.On("changes of producer ids not shown")`},
	{Name: "a quorum begins without all of its nodes", Seed: 5, Seeds: 300, File: "raftmeta/quorum/meeting.go",
		Old: `		if !ok || address != m.Own && !maps.Equal(m.met, m.answers[address]) {
`,
		New: `		if !ok && planted.On("a quorum begins without all of its nodes") {
			continue
		}
		if !ok || address != m.Own && !maps.Equal(m.met, m.answers[address]) {
`},
	{
		Name:  "a coordinator answers before its records are committed",
		File:  "groups/runtime/loop.go",
		Old:   `	if end > l.log.HighWatermark() || len(l.uncommitted) > 0 {`,
		New:   `	if !planted.On("a coordinator answers before its records are committed") && (end > l.log.HighWatermark() || len(l.uncommitted) > 0) {`,
		Seeds: 300,
		Seed:  25,
	},
	{
		Name:  "offsets of transactions count once they are loaded",
		File:  "groups/runtime/loop.go",
		Old:   `		if b.IsTransactional() {`,
		New:   `		if b.IsTransactional() && !planted.On("offsets of transactions count once they are loaded") {`,
		Seeds: 300,
		Seed:  6,
	},
	{
		Name:  "the last stable offset is the high watermark",
		File:  "storage/transactions.go",
		Old:   `	if first := l.unstable.Load(); first >= 0 && first < high {`,
		New:   `	if first := l.unstable.Load(); first >= 0 && first < high && !planted.On("the last stable offset is the high watermark") {`,
		Seeds: 300,
		Seed:  5,
	},
	{
		Name:  "aborted transactions are not listed",
		File:  "storage/txnindex.go",
		Old:   `			if t.First < upTo {`,
		New:   `			if t.First < upTo && !planted.On("aborted transactions are not listed") {`,
		Seeds: 300,
		Seed:  5,
	},
	{
		Name: "an abort commits",
		File: "storage/transactions.go",
		Old: `	if m.Commit {
		kind = record.Commit`,
		New: `	if m.Commit || planted.On("an abort commits") {
		kind = record.Commit`,
		Seeds: 300,
		Seed:  5,
	},
	{
		Name:  "consumers of committed records read what is open",
		File:  "replication/fetch.go",
		Old:   `		upTo = out.LastStableOffset`,
		New:   `		if !planted.On("consumers of committed records read what is open") { upTo = out.LastStableOffset }`,
		Seeds: 300,
		Seed:  5,
	},
	{
		Name:  "an offset counts before its transaction is committed",
		File:  "groups/coordinator/records.go",
		Old:   `	if e.ProducerID >= 0 {`,
		New:   `	if e.ProducerID >= 0 && !planted.On("an offset counts before its transaction is committed") {`,
		Seeds: 300,
		Seed:  6,
	},
	{
		Name:  "an offset of an aborted transaction counts",
		File:  "groups/coordinator/transactions.go",
		Old:   `		if committed {`,
		New:   `		if committed || planted.On("an offset of an aborted transaction counts") {`,
		Seeds: 300,
		Seed:  5,
	},
	{
		Name: "the next coordinator writes no markers",
		File: "groups/transaction/coordinator.go",
		Old: `		if s.decided() {
			e.Events`,
		New: `		if s.decided() && !planted.On("the next coordinator writes no markers") {
			e.Events`,
		Seeds: 300,
		Seed:  5,
	},
	{
		Name:  "a marker counts though the leader refused it",
		File:  "groups/markers.go",
		Old:   `	case err == nil, errors.Is(err, kerr.UnsupportedForMessageFormat), errors.Is(err, kerr.UnsupportedVersion):`,
		New:   `	case err == nil, planted.On("a marker counts though the leader refused it"), errors.Is(err, kerr.UnsupportedForMessageFormat), errors.Is(err, kerr.UnsupportedVersion):`,
		Seeds: 300,
		Seed:  5,
	},
	{
		Name:  "complete before its markers are written",
		File:  "groups/markers.go",
		Old:   `	if len(all) == 0 {`,
		New:   `	if len(all) == 0 || planted.On("complete before its markers are written") {`,
		Seeds: 300,
		Seed:  5,
	},
	{
		Name: "the first partition of a transaction is forgotten",
		File: "groups/transaction/add.go",
		Old: `	for _, tp := range r.Partitions {
		n.partitions[tp] = struct{}{}`,
		New: `	for i, tp := range r.Partitions {
		if i == 0 && len(n.partitions) > 0 && planted.On("the first partition of a transaction is forgotten") { continue }
		n.partitions[tp] = struct{}{}`,
		Seeds: 300,
		Seed:  5,
	},
	{
		Name:  "the producer before is not fenced",
		File:  "groups/transaction/init.go",
		Old:   `	if s.epoch < math.MaxInt16 {`,
		New:   `	if s.epoch < math.MaxInt16 && !planted.On("the producer before is not fenced") {`,
		Seeds: 300,
		Seed:  1,
	},
	{
		Name:  "a zombie ends its successor's transaction",
		File:  "groups/transaction/end.go",
		Old:   `	case s.epoch != r.Epoch && !again:`,
		New:   `	case s.epoch != r.Epoch && !again && !planted.On("a zombie ends its successor's transaction"):`,
		Seeds: 300,
		Seed:  6,
	},
	{
		Name: "transactions are not verified",
		File: "replication/transactions.go",
		Old: `		if err != nil {
			at := out[of[i]]`,
		New: `		if err != nil && !planted.On("transactions are not verified") {
			at := out[of[i]]`,
		Seeds: 300,
		Seed:  1,
	},
	{
		Name:  "what waits for the end of a transaction is not recorded",
		File:  "groups/transaction/coordinator.go",
		Old:   `				now, e.Records = next, records`,
		New:   `				if now = next; !planted.On("what waits for the end of a transaction is not recorded") { e.Records = records }`,
		Seeds: 300,
		Seed:  112,
	},
	{
		Name:  "transactions do not time out",
		File:  "groups/transaction/coordinator.go",
		Old:   `	return s.timedOut(now) || byItself`,
		New:   `	return !planted.On("transactions do not time out") && (s.timedOut(now) || byItself)`,
		Seeds: 300,
		Seed:  5,
	},
}
