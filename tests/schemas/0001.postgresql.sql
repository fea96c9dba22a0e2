CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.budget (
    key text NOT NULL,
    period text NOT NULL,
    spent bigint NOT NULL,
    reserved bigint NOT NULL
);
CREATE TABLE public.delivery (
    id text NOT NULL,
    task text NOT NULL,
    key text NOT NULL,
    url text NOT NULL,
    type text NOT NULL,
    body text NOT NULL,
    created bigint NOT NULL,
    due bigint NOT NULL,
    tries integer NOT NULL,
    status text NOT NULL,
    last text
);
CREATE TABLE public.entry (
    id text NOT NULL,
    key text NOT NULL,
    at bigint NOT NULL,
    day text NOT NULL,
    op text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    status text NOT NULL,
    pictures integer NOT NULL,
    cost bigint,
    wasted bigint NOT NULL
);
CREATE TABLE public.file (
    id text NOT NULL,
    key text NOT NULL,
    created bigint NOT NULL,
    expires bigint,
    filename text NOT NULL,
    purpose text NOT NULL,
    type text NOT NULL,
    bytes bigint NOT NULL,
    path text NOT NULL
);
CREATE TABLE public.job (
    task text NOT NULL,
    key text NOT NULL,
    queue text NOT NULL,
    priority integer NOT NULL,
    work jsonb,
    webhook text,
    started bigint,
    cancel bigint,
    progress integer,
    adopted integer NOT NULL
);
CREATE TABLE public.key (
    id text NOT NULL,
    name text NOT NULL,
    email text,
    digest bytea NOT NULL,
    prefix text NOT NULL,
    previous_digest bytea,
    previous_until bigint,
    tier text,
    admin boolean NOT NULL,
    models jsonb,
    overrides jsonb NOT NULL,
    metadata jsonb NOT NULL,
    created bigint NOT NULL,
    expires bigint,
    revoked bigint,
    webhook_url text,
    webhook_version integer NOT NULL,
    webhook_rotated bigint
);
CREATE UNLOGGED TABLE public.rate (
    id text NOT NULL,
    free bigint NOT NULL
);
CREATE TABLE public.reservation (
    task text NOT NULL,
    key text NOT NULL,
    day text NOT NULL,
    amount bigint NOT NULL,
    worker text NOT NULL
);
CREATE UNLOGGED TABLE public.slot (
    task text NOT NULL,
    key text NOT NULL,
    worker text NOT NULL,
    until bigint NOT NULL
);
CREATE TABLE public.submit (
    task text NOT NULL,
    number integer NOT NULL,
    target text NOT NULL,
    credential text NOT NULL,
    sent bigint NOT NULL,
    saved jsonb NOT NULL,
    call jsonb
);
CREATE TABLE public.task (
    id text NOT NULL,
    key text NOT NULL,
    created bigint NOT NULL,
    ended bigint,
    status text NOT NULL,
    op text NOT NULL,
    asked text NOT NULL,
    model text,
    request jsonb NOT NULL,
    metadata jsonb,
    result jsonb,
    bytes bigint NOT NULL,
    timings jsonb,
    error jsonb,
    cost bigint,
    wasted bigint NOT NULL,
    estimate bigint,
    fingerprint text,
    claim text,
    worker text NOT NULL,
    lost boolean NOT NULL,
    request_id text,
    cached text,
    terms text NOT NULL
);
CREATE TABLE public.worker (
    id text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started bigint NOT NULL,
    seen bigint NOT NULL
);
INSERT INTO public.alembic_version VALUES ('0001');
INSERT INTO public.budget VALUES ('key_1', '2026-09', 40007, 500);
INSERT INTO public.budget VALUES ('key_1', '2026-09-21', 40007, 500);
INSERT INTO public.delivery VALUES ('evt_1', 'task_1', 'key_1', 'https://app.example/hook', 'task.completed', '{"id":"evt_1","object":"event","created_at":1790000009,"type":"task.completed","data":{"id":"task_1"}}', 1790000009000, 1790000014000, 1, 'pending', 'status 503');
INSERT INTO public.entry VALUES ('task_1', 'key_1', 1790000000000, '2026-09-21', 'generate', 'demo', 'demo/lighthouse', 'completed', 1, 40000, 7);
INSERT INTO public.file VALUES ('file-1', 'key_1', 1790000000000, NULL, 'a.png', 'vision', 'image/png', 3, 'uploads/a');
INSERT INTO public.key VALUES ('key_1', 'app', 'app@example.com', '\x0102', 'sk-pictor-ab', '\x03', 1790000000000, 'pro', false, '["demo/*"]', '{"max_n": 2}', '{"team": "a"}', 1790000000000, NULL, NULL, 'https://app.example/hook', 2, 1790000000000);
INSERT INTO public.key VALUES ('key_2', 'root', NULL, '\x04', 'sk-pictor-cd', NULL, NULL, NULL, true, NULL, '{}', '{}', 1790000000000, 1790000000001, 1790000000002, NULL, 1, NULL);
INSERT INTO public.rate VALUES ('key_1:images', 1790000000000000);
INSERT INTO public.reservation VALUES ('task_3', 'key_1', '2026-09-21', 500, 'w');
INSERT INTO public.slot VALUES ('task_3', 'key_1', 'w', 1790000000000);
INSERT INTO public.job VALUES ('task_3', 'key_1', 'demo', 0, '{"n": 1}', 'https://app.example/hook', 1790000000000, NULL, 40, 1);
INSERT INTO public.submit VALUES ('task_3', 0, 'demo/lighthouse', 'demo#1', 1790000000001, '{"n": 1}', '{"path": "/tasks/7"}');
INSERT INTO public.task VALUES ('task_3', 'key_1', 1790000000002, NULL, 'in_progress', 'generate', 'x', NULL, '{}', NULL, NULL, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL, 'w', false, NULL, NULL, 'db3435c9c00fdf04');
INSERT INTO public.task VALUES ('task_1', 'key_1', 1790000000000, 1790000009000, 'completed', 'generate', 'dall-e-3', 'demo/lighthouse', '{"n": 1, "prompt": "Ein Leuchtturm – “日本”, it''s"}', '{"project": "a"}', '{"created": 1790000000, "outputs": [{"id": "20261120-x.png", "type": "image/png"}]}', 12, '{"submit": 0.5}', NULL, 40000, 7, 40000, 'ab', 'cd', 'w', true, 'req_1', NULL, '300edca56de31db1 b688581ac2b2049c c98498d7d34d3c00');
INSERT INTO public.task VALUES ('task_2', 'key_2', 1790000000001, 1790000000005, 'failed', 'edit', 'x', NULL, '{}', NULL, NULL, 0, NULL, '{"code": null, "kind": "policy", "param": null, "message": "No."}', NULL, 0, NULL, NULL, NULL, 'w', false, NULL, NULL, 'db3435c9c00fdf04');
INSERT INTO public.worker VALUES ('w', 'h', 1, 1790000000000, 1790000000000);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.budget
    ADD CONSTRAINT budget_pkey PRIMARY KEY (key, period);
ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.entry
    ADD CONSTRAINT entry_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.file
    ADD CONSTRAINT file_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (task);
ALTER TABLE ONLY public.submit
    ADD CONSTRAINT submit_pkey PRIMARY KEY (task, number);
ALTER TABLE ONLY public.key
    ADD CONSTRAINT key_digest_key UNIQUE (digest);
ALTER TABLE ONLY public.key
    ADD CONSTRAINT key_name_key UNIQUE (name);
ALTER TABLE ONLY public.key
    ADD CONSTRAINT key_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.key
    ADD CONSTRAINT key_previous_digest_key UNIQUE (previous_digest);
ALTER TABLE ONLY public.rate
    ADD CONSTRAINT rate_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.reservation
    ADD CONSTRAINT reservation_pkey PRIMARY KEY (task);
ALTER TABLE ONLY public.slot
    ADD CONSTRAINT slot_pkey PRIMARY KEY (task);
ALTER TABLE ONLY public.task
    ADD CONSTRAINT task_claim_key UNIQUE (claim);
ALTER TABLE ONLY public.task
    ADD CONSTRAINT task_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.worker
    ADD CONSTRAINT worker_pkey PRIMARY KEY (id);
CREATE INDEX delivery_due ON public.delivery USING btree (due) WHERE (status = 'pending'::text);
CREATE INDEX delivery_task ON public.delivery USING btree (task);
CREATE INDEX entry_day ON public.entry USING btree (day);
CREATE INDEX entry_key ON public.entry USING btree (key, day, pictures, cost, wasted);
CREATE INDEX file_expires ON public.file USING btree (expires);
CREATE INDEX file_key ON public.file USING btree (key, id);
CREATE INDEX job_cancel ON public.job USING btree (task) WHERE (cancel IS NOT NULL);
CREATE INDEX job_waiting ON public.job USING btree (queue, key, task) WHERE (started IS NULL);
CREATE INDEX slot_key ON public.slot USING btree (key);
CREATE INDEX task_all ON public.task USING btree (id, created, status, op, terms);
CREATE INDEX task_cached ON public.task USING btree (cached) WHERE (cached IS NOT NULL);
CREATE INDEX task_fingerprint ON public.task USING btree (fingerprint) WHERE (lost OR (ended IS NULL));
CREATE INDEX task_key ON public.task USING btree (key, id, created, status, op, terms);
CREATE INDEX task_worker ON public.task USING btree (worker) WHERE (ended IS NULL);
