BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE budget (
	"key" TEXT NOT NULL, 
	period TEXT NOT NULL, 
	spent BIGINT NOT NULL, 
	reserved BIGINT NOT NULL, 
	CONSTRAINT budget_pkey PRIMARY KEY ("key", period)
);
INSERT INTO "budget" VALUES('key_1','2026-09',40007,500);
INSERT INTO "budget" VALUES('key_1','2026-09-21',40007,500);
CREATE TABLE delivery (
	id TEXT NOT NULL, 
	task TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	url TEXT NOT NULL, 
	type TEXT NOT NULL, 
	body TEXT NOT NULL, 
	created BIGINT NOT NULL, 
	due BIGINT NOT NULL, 
	tries INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	last TEXT, 
	CONSTRAINT delivery_pkey PRIMARY KEY (id)
);
INSERT INTO "delivery" VALUES('evt_1','task_1','key_1','https://app.example/hook','task.completed','{"id":"evt_1","object":"event","created_at":1790000009,"type":"task.completed","data":{"id":"task_1"}}',1790000009000,1790000014000,1,'pending','status 503');
CREATE TABLE entry (
	id TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	day TEXT NOT NULL, 
	op TEXT NOT NULL, 
	provider TEXT NOT NULL, 
	model TEXT NOT NULL, 
	status TEXT NOT NULL, 
	pictures INTEGER NOT NULL, 
	cost BIGINT, 
	wasted BIGINT NOT NULL, 
	CONSTRAINT entry_pkey PRIMARY KEY (id)
);
INSERT INTO "entry" VALUES('task_1','key_1',1790000000000,'2026-09-21','generate','demo','demo/lighthouse','completed',1,40000,7);
CREATE TABLE file (
	id TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	created BIGINT NOT NULL, 
	expires BIGINT, 
	filename TEXT NOT NULL, 
	purpose TEXT NOT NULL, 
	type TEXT NOT NULL, 
	bytes BIGINT NOT NULL, 
	path TEXT NOT NULL, 
	CONSTRAINT file_pkey PRIMARY KEY (id)
);
INSERT INTO "file" VALUES('file-1','key_1',1790000000000,NULL,'a.png','vision','image/png',3,'uploads/a');
CREATE TABLE job (
	task TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	queue TEXT NOT NULL, 
	priority INTEGER NOT NULL, 
	work JSON, 
	webhook TEXT, 
	started BIGINT, 
	cancel BIGINT, 
	progress INTEGER, 
	adopted INTEGER NOT NULL, 
	CONSTRAINT job_pkey PRIMARY KEY (task)
);
INSERT INTO "job" VALUES('task_3','key_1','demo',0,'{"n":1}','https://app.example/hook',1790000000000,NULL,40,1);
CREATE TABLE "key" (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	email TEXT, 
	digest BLOB NOT NULL, 
	prefix TEXT NOT NULL, 
	previous_digest BLOB, 
	previous_until BIGINT, 
	tier TEXT, 
	admin BOOLEAN NOT NULL, 
	models JSON, 
	overrides JSON NOT NULL, 
	metadata JSON NOT NULL, 
	created BIGINT NOT NULL, 
	expires BIGINT, 
	revoked BIGINT, 
	webhook_url TEXT, 
	webhook_version INTEGER NOT NULL, 
	webhook_rotated BIGINT, 
	CONSTRAINT key_pkey PRIMARY KEY (id), 
	CONSTRAINT key_name_key UNIQUE (name), 
	CONSTRAINT key_digest_key UNIQUE (digest), 
	CONSTRAINT key_previous_digest_key UNIQUE (previous_digest)
);
INSERT INTO "key" VALUES('key_1','app','app@example.com',X'0102','sk-pictor-ab',X'03',1790000000000,'pro',0,'["demo/*"]','{"max_n":2}','{"team":"a"}',1790000000000,NULL,NULL,'https://app.example/hook',2,1790000000000);
INSERT INTO "key" VALUES('key_2','root',NULL,X'04','sk-pictor-cd',NULL,NULL,NULL,1,NULL,'{}','{}',1790000000000,1790000000001,1790000000002,NULL,1,NULL);
CREATE TABLE rate (
	id TEXT NOT NULL, 
	free BIGINT NOT NULL, 
	CONSTRAINT rate_pkey PRIMARY KEY (id)
);
INSERT INTO "rate" VALUES('key_1:images',1790000000000000);
CREATE TABLE reservation (
	task TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	day TEXT NOT NULL, 
	amount BIGINT NOT NULL, 
	worker TEXT NOT NULL, 
	CONSTRAINT reservation_pkey PRIMARY KEY (task)
);
INSERT INTO "reservation" VALUES('task_3','key_1','2026-09-21',500,'w');
CREATE TABLE slot (
	task TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	worker TEXT NOT NULL, 
	until BIGINT NOT NULL, 
	CONSTRAINT slot_pkey PRIMARY KEY (task)
);
INSERT INTO "slot" VALUES('task_3','key_1','w',1790000000000);
CREATE TABLE submit (
	task TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	target TEXT NOT NULL, 
	credential TEXT NOT NULL, 
	sent BIGINT NOT NULL, 
	saved JSON NOT NULL, 
	call JSON, 
	CONSTRAINT submit_pkey PRIMARY KEY (task, number)
);
INSERT INTO "submit" VALUES('task_3',0,'demo/lighthouse','demo#1',1790000000001,'{"n":1}','{"path":"/tasks/7"}');
CREATE TABLE task (
	id TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	created BIGINT NOT NULL, 
	ended BIGINT, 
	status TEXT NOT NULL, 
	op TEXT NOT NULL, 
	asked TEXT NOT NULL, 
	model TEXT, 
	request JSON NOT NULL, 
	metadata JSON, 
	result JSON, 
	bytes BIGINT NOT NULL, 
	timings JSON, 
	error JSON, 
	cost BIGINT, 
	wasted BIGINT NOT NULL, 
	estimate BIGINT, 
	fingerprint TEXT, 
	claim TEXT, 
	worker TEXT NOT NULL, 
	lost BOOLEAN NOT NULL, 
	request_id TEXT, 
	cached TEXT, 
	terms TEXT NOT NULL, 
	CONSTRAINT task_pkey PRIMARY KEY (id), 
	CONSTRAINT task_claim_key UNIQUE (claim)
);
INSERT INTO "task" VALUES('task_3','key_1',1790000000002,NULL,'in_progress','generate','x',NULL,'{}',NULL,NULL,0,NULL,NULL,NULL,0,NULL,NULL,NULL,'w',0,NULL,NULL,'db3435c9c00fdf04');
INSERT INTO "task" VALUES('task_1','key_1',1790000000000,1790000009000,'completed','generate','dall-e-3','demo/lighthouse','{"prompt":"Ein Leuchtturm – “日本”, it''s","n":1}','{"project":"a"}','{"created":1790000000,"outputs":[{"id":"20261120-x.png","type":"image/png"}]}',12,'{"submit":0.5}',NULL,40000,7,40000,'ab','cd','w',1,'req_1',NULL,'300edca56de31db1 b688581ac2b2049c c98498d7d34d3c00');
INSERT INTO "task" VALUES('task_2','key_2',1790000000001,1790000000005,'failed','edit','x',NULL,'{}',NULL,NULL,0,NULL,'{"kind":"policy","code":null,"message":"No.","param":null}',NULL,0,NULL,NULL,NULL,'w',0,NULL,NULL,'db3435c9c00fdf04');
CREATE TABLE worker (
	id TEXT NOT NULL, 
	host TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	started BIGINT NOT NULL, 
	seen BIGINT NOT NULL, 
	CONSTRAINT worker_pkey PRIMARY KEY (id)
);
INSERT INTO "worker" VALUES('w','h',1,1790000000000,1790000000000);
CREATE INDEX task_key ON task ("key", id, created, status, op, terms);
CREATE INDEX task_all ON task (id, created, status, op, terms);
CREATE INDEX task_cached ON task (cached) WHERE cached IS NOT NULL;
CREATE INDEX task_fingerprint ON task (fingerprint) WHERE (lost OR ended IS NULL);
CREATE INDEX task_worker ON task (worker) WHERE ended IS NULL;
CREATE INDEX delivery_due ON delivery (due) WHERE status = 'pending';
CREATE INDEX delivery_task ON delivery (task);
CREATE INDEX entry_key ON entry ("key", day, pictures, cost, wasted);
CREATE INDEX entry_day ON entry (day);
CREATE INDEX file_key ON file ("key", id);
CREATE INDEX file_expires ON file (expires);
CREATE INDEX slot_key ON slot ("key");
CREATE INDEX job_waiting ON job (queue, "key", task) WHERE started IS NULL;
CREATE INDEX job_cancel ON job (task) WHERE cancel IS NOT NULL;
COMMIT;
