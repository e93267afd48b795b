package keycote

import (
	"encoding/json"
	"errors"
	"math"
	"time"
)

// limitJSON is Limit with its durations in seconds: what a person types and a browser can count with.
type limitJSON struct {
	Rate   int   `json:"rate,omitempty"`
	Per    int64 `json:"per,omitempty"`
	Burst  int   `json:"burst,omitempty"`
	Quota  int64 `json:"quota,omitempty"`
	Period int64 `json:"period,omitempty"`
}

// MarshalJSON writes Per and Period in seconds. It fails when they are not whole.
func (l Limit) MarshalJSON() ([]byte, error) {
	if l.Per%time.Second != 0 || l.Period%time.Second != 0 {
		return nil, errors.New("keycote: a Limit's per and period are whole seconds")
	}
	return json.Marshal(limitJSON{l.Rate, int64(l.Per / time.Second), l.Burst, l.Quota, int64(l.Period / time.Second)})
}

// UnmarshalJSON reads what MarshalJSON writes. It fails when a number of seconds does not fit a time.Duration.
func (l *Limit) UnmarshalJSON(b []byte) error {
	var j limitJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	const most = int64(math.MaxInt64 / time.Second)
	if j.Per > most || j.Per < -most || j.Period > most || j.Period < -most {
		return errors.New("keycote: a Limit's per or period is out of range")
	}
	*l = Limit{j.Rate, time.Duration(j.Per) * time.Second, j.Burst, j.Quota, time.Duration(j.Period) * time.Second}
	return nil
}
