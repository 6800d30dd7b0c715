-- SPDX-License-Identifier: GPL-2.0
PRAGMA cache_size = -32768;
WITH RECURSIVE counter (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < 1000000000)
SELECT sum(length(item.filler)) FROM counter JOIN item ON item.number = 20000 + (counter.n * 7919) % 5000;
