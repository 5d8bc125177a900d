package drivers

import "testing"

func testPq(t *testing.T, tg target) {}
