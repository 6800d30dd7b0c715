-- SPDX-License-Identifier: GPL-2.0
CREATE TABLE item (number INTEGER PRIMARY KEY, value INTEGER, filler TEXT);
WITH RECURSIVE counter (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < 40000)
INSERT INTO item SELECT n, (n * 7919) % 10007, printf('%.200c', 'x') FROM counter;
CREATE INDEX by_value ON item (value);
