package keycote

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"
)

// logPages is how many pages of usage rows the log's checks read at most.
const logPages = 10

// logSpans is how far the log's checks look back, the newest part first: when there is more than they read, what they
// do not read is not the last use.
var logSpans = [...]time.Duration{time.Hour, oneDay, 7 * oneDay}

// outcomes sums up use counts that are alike.
type outcomes struct {
	n    int64
	last time.Time
}

// checkLog sums up the use log of the last days: what is in memory is written first.
func (d *diagnosis) checkLog() {
	d.say(areaLog, "alerts", checkSkipped, findNoAlerts)
	if idOrNone(d.id) == "" { // nothing is counted under such an id, and asking for "" asks for all keys
		d.skip(areaLog, "successes", "refusals")
		return
	}
	_, err := within(d, partStore, func(ctx context.Context) (struct{}, error) { return struct{}{}, d.Flush(ctx) })
	if err != nil {
		d.logFailure(d.ctx, "the use log could not be written, and will be tried again", err)
	}
	seen, more, err := d.readLog()
	if err != nil {
		d.unchecked(err, areaLog, "successes", "refusals")
		return
	}
	if used := seen[""]; d.rec != nil {
		used.last = later(used.last, d.rec.key(d.now, d.raw.Uses).LastUsedAt)
		seen[""] = used
	}
	if used := seen[""]; used.last.IsZero() {
		d.say(areaLog, "successes", checkWarning, findNeverUsed)
	} else {
		d.say(areaLog, "successes", checkOK, findUsed, used.params(more)...)
	}
	delete(seen, "")
	if len(seen) == 0 {
		d.say(areaLog, "refusals", checkOK, findNoRefusals)
	}
	for _, code := range slices.Sorted(maps.Keys(seen)) {
		refused := seen[code]
		d.say(areaLog, "refusals", checkWarning, findRefusals, append(refused.params(more), "reason", string(code))...)
	}
}

// readLog reads the key's use counts by outcome. more is "+" when there are more than are read.
func (d *diagnosis) readLog() (seen map[Code]outcomes, more string, err error) {
	seen = map[Code]outcomes{}
	q := UsageQuery{Tenant: d.tenant, KeyID: d.id, Limit: 1000}
	pages := 0
	for _, span := range logSpans {
		q.Until, q.Since, q.After = q.Since, d.now.Add(-span), UseCount{}
		for {
			if pages++; pages > logPages {
				return seen, "+", nil
			}
			asked := q
			rows, err := within(d, partStore, func(ctx context.Context) ([]UseCount, error) {
				return d.store.Usage(ctx, asked)
			})
			if err != nil {
				return nil, "", err
			}
			for _, r := range rows {
				o := seen[r.Outcome]
				seen[r.Outcome] = outcomes{o.n + r.N, later(o.last, r.Last)}
			}
			if len(rows) < q.Limit {
				break
			}
			q.After = rows[len(rows)-1]
		}
	}
	return seen, "", nil
}

func (o outcomes) params(more string) []string {
	return []string{"count", strconv.FormatInt(o.n, 10) + more, "last", o.last.UTC().Format(time.RFC3339)}
}
