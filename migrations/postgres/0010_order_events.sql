-- What happened to an order in one millisecond is told in the order in which it happened, too. Twin:
-- migrations/sqlite/0010_order_events.sql: there each row has such a number, and by this name.
alter table order_events add column rowid bigserial;
