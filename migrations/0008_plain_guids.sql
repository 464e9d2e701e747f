-- Why: compressing the GUIDs that limits drop takes longer than it saves: they are random, and gone within the hour.

ALTER TABLE dropped_guids ALTER COLUMN guids SET STORAGE EXTERNAL;
