// Package storetest holds a [keycote.Store] to its contract. It is a part of that contract: a Store is one when Run
// passes, and every defect that is found in a Store becomes a case here.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) keycote.Store {
//			return mystore.Open(filepath.Join(t.TempDir(), "keys.db"))
//		})
//	}
//
// What it cannot show, being given one handle: that two processes on one medium see each other's commits, and that what
// a Commit has answered outlives a crash. A Store on a shared medium needs tests of its own for both.
package storetest

import (
	"testing"

	"github.com/keycote/keycote"
)

// Run holds the Stores that open returns to the contract of [keycote.Store], one named subtest for each promise. Every
// subtest opens a Store of its own: open must return an empty one that shares nothing with the others, and registers
// with Cleanup what is to be closed. Subtests run in parallel; Run returns when all of them have ended.
//
// One of them, Model, does random operations. A failure prints their seed, and the environment variable
// KEYCOTE_STORETEST_SEED repeats them.
func Run(t *testing.T, open func(testing.TB) keycote.Store) {
	t.Helper()
	t.Run("Store", func(t *testing.T) { // a parallel subtest outlives the function that starts it, but not its group
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, open(t))
			})
		}
	})
}

// testCase is one promise. It takes a testing.TB so that the tests of this package can run it against a broken Store
// and watch it fail.
type testCase struct {
	name string
	run  func(t testing.TB, s keycote.Store)
}

var cases = []testCase{
	{"RecordRoundTrip", recordRoundTrip},
	{"RecordUpdateReplacesEverything", recordUpdateReplacesEverything},
	{"RecordAbsent", recordAbsent},
	{"RecordOfAnotherTenant", recordOfAnotherTenant},
	{"RecordLarge", recordLarge},
	{"TextComparedByBytes", textComparedByBytes},
	{"TextHostile", textHostile},
	{"NothingShared", nothingShared},

	{"NameUnique", nameUnique},
	{"NameEmptyIsNotUnique", nameEmptyIsNotUnique},
	{"NameFreedInTheSameBatch", nameFreedInTheSameBatch},
	{"DigestUnique", digestUnique},
	{"DigestFreed", digestFreed},
	{"DigestMovesInOneBatch", digestMovesInOneBatch},
	{"LookupFindsByAnyDigest", lookupFindsByAnyDigest},
	{"LookupOfTwoRecords", lookupOfTwoRecords},
	{"LookupFollowsDigests", lookupFollowsDigests},

	{"RevisionOfUpdate", revisionOfUpdate},
	{"RevisionOfDelete", revisionOfDelete},
	{"InsertOfWhatIsThere", insertOfWhatIsThere},
	{"ExpectHoldsTheBatch", expectHoldsTheBatch},
	{"BatchIsAtomic", batchIsAtomic},
	{"BatchRepeated", batchRepeated},
	{"BatchFailedIsNotRemembered", batchFailedIsNotRemembered},
	{"BatchWithoutID", batchWithoutID},
	{"BatchLarge", batchLarge},
	{"ErrorsRank", errorsRank},
	{"ContextEndedBefore", contextEndedBefore},
	{"ContextEndsMeanwhile", contextEndsMeanwhile},

	{"ItemRoundTrip", itemRoundTrip},
	{"ItemRevisions", itemRevisions},
	{"ItemPages", itemPages},
	{"ItemQueryNarrows", itemQueryNarrows},

	{"ListFilters", listFilters},
	{"ListSearchIsLiteral", listSearchIsLiteral},
	{"ListPages", listPages},
	{"ListPagesWhileChanging", listPagesWhileChanging},
	{"ListPositionNeedNoRow", listPositionNeedNoRow},
	{"ListLimit", listLimit},

	{"EventRoundTrip", eventRoundTrip},
	{"EventFilters", eventFilters},
	{"EventPages", eventPages},
	{"EventTwice", eventTwice},
	{"EventOutlivesItsKey", eventOutlivesItsKey},
	{"EventRedacted", eventRedacted},

	{"UseRoundTrip", useRoundTrip},
	{"UseAddsUp", useAddsUp},
	{"UseTotals", useTotals},
	{"UseWithoutRecord", useWithoutRecord},
	{"UsagePages", usagePages},
	{"UsageFilters", usageFilters},
	{"PruneBounds", pruneBounds},
	{"PruneKeepsTotals", pruneKeepsTotals},

	{"FeedStart", feedStart},
	{"FeedShowsChanges", feedShowsChanges},
	{"FeedShowsDigestsBeforeAndAfter", feedShowsDigestsBeforeAndAfter},
	{"FeedIgnoresTheRest", feedIgnoresTheRest},
	{"FeedPages", feedPages},
	{"FeedUnknownPosition", feedUnknownPosition},
	{"FeedFollowedWhileWriting", feedFollowedWhileWriting},

	{"RaceOfUpdates", raceOfUpdates},
	{"RaceOfNames", raceOfNames},
	{"RaceOfDigests", raceOfDigests},
	{"RaceOfItems", raceOfItems},
	{"RaceOfOneBatch", raceOfOneBatch},
	{"RaceOfUses", raceOfUses},
	{"RaceOfExpectAndItem", raceOfExpectAndItem},
	{"RaceOfReaders", raceOfReaders},
	{"KeyringRewrapped", keyringRewrapped},
	{"KeyringShredded", keyringShredded},
	{"KeyringKeyDropped", keyringKeyDropped},
	{"KeyringKeyAdded", keyringKeyAdded},

	{"Model", model},
}
